"""The mask logits of every window of one or several images: all that labels are made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.inference.sliding_window import Box, MaskNetwork, batched, window_boxes
from cascade_clip.runtime import products_in


@dataclass(frozen=True)
class WindowLogits:
    """What the network says about the W windows of one image.

    Attributes:
        size: Height and width of the image that the windows lie in.
        boxes: W windows, row by row, all of one size.
        logits: (W, K, h, w) float32, the mask logits of each window on its grid of patches.
        mirrored: Those of the mirrored windows; none where scores are not averaged with them.
        padded: Height and width that the grid stands for: the window's, filled up to whole patches.
    """

    size: tuple[int, int]
    boxes: Sequence[Box]
    logits: Tensor
    mirrored: Tensor | None
    padded: tuple[int, int]


def window_logits(
    network: MaskNetwork,
    images: Sequence[Tensor],
    text: Tensor,
    inference: InferenceConfig,
    *,
    dtype: torch.dtype = torch.float32,
) -> list[WindowLogits]:
    """Run the network over the windows of images; windows of one size share batches, whichever image they are from.

    Args:
        network: Image and text embeddings to mask logits, in evaluation mode.
        images: (3, H, W) float32 each, normalised, on the network's device; any sizes.
        text: (K, C) float32 text embeddings on the same device.
        inference: Crop, stride, mirrored averaging, windows a forward pass.
        dtype: Precision of the network's products (autocast); logits are float32 whatever it is.
    """
    boxes = [window_boxes(image.shape[-2], image.shape[-1], inference.crop, inference.stride) for image in images]
    of_all = [(image, box) for image, some in zip(images, boxes, strict=True) for box in some]
    passes = (
        _forward(network, [image[:, y1:y2, x1:x2] for image, (y1, x1, y2, x2) in batch], text, inference)
        for _, alike in groupby(of_all, key=lambda window: _size(window[1]))
        for batch in batched(list(alike), inference.window_batch)
    )
    with torch.inference_mode(), products_in(dtype, images[0].device):
        windows = chain.from_iterable(passes)
        return [_of_image(image, some, windows, network.patch_size) for image, some in zip(images, boxes, strict=True)]


def _forward(
    network: MaskNetwork, crops: Sequence[Tensor], text: Tensor, inference: InferenceConfig
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Logits (K, h, w) of each crop (3, H, W), and those of the mirrored crop where asked."""
    height, width = crops[0].shape[-2:]
    bottom, right = -height % network.patch_size, -width % network.patch_size
    # Zero is the mean colour after normalisation.
    stacked = F.pad(torch.stack(list(crops)), (0, right, 0, bottom))
    logits = network(stacked, text).float()
    if not inference.flip:
        return zip(logits, [None] * len(crops), strict=True)
    mirrored = F.pad(stacked[..., :height, :width].flip(-1), (0, right, 0, bottom))
    return zip(logits, network(mirrored, text).float(), strict=True)


def _of_image(
    image: Tensor, boxes: Sequence[Box], windows: Iterator[tuple[Tensor, Tensor | None]], patch_size: int
) -> WindowLogits:
    """Take an image's windows off the stream of all windows."""
    height, width = _size(boxes[0])
    logits, mirrored = zip(*(next(windows) for _ in boxes), strict=True)
    return WindowLogits(
        size=(image.shape[-2], image.shape[-1]),
        boxes=boxes,
        logits=torch.stack(logits),
        mirrored=None if mirrored[0] is None else torch.stack(mirrored),
        padded=(height + -height % patch_size, width + -width % patch_size),
    )


def _size(box: Box) -> tuple[int, int]:
    y1, x1, y2, x2 = box
    return y2 - y1, x2 - x1
