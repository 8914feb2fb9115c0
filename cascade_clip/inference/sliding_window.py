"""Sliding window: the scores of a whole image from a network that sees one crop at a time (SPEC section 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.inference.scores import class_scores
from cascade_clip.runtime import products_in

Box = tuple[int, int, int, int]
"""A window as (y1, x1, y2, x2) in pixels; y2 and x2 are outside."""
Item = TypeVar("Item")


class MaskNetwork(Protocol):
    """What inference needs of a network; it is put into evaluation mode by whoever owns it."""

    @property
    def patch_size(self) -> int:
        """Side of a patch; the sides of an image must be multiples of it."""
        ...

    def __call__(self, image: Tensor, text: Tensor) -> Tensor:
        """Image (B, 3, H, W) and text embeddings (K, C) to mask logits (B, K, h, w)."""
        ...


def window_boxes(height: int, width: int, crop: int, stride: int) -> list[Box]:
    """Windows that cover an image, row by row; the last of each axis is shifted back to end at the border.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        crop: Side of the square window; an image side below it is taken whole.
        stride: Distance of windows, at most `crop`.

    Returns:
        Boxes (y1, x1, y2, x2), all of the same size.
    """
    return [
        (y1, x1, min(y1 + crop, height), min(x1 + crop, width))
        for y1 in _starts(height, crop, stride)
        for x1 in _starts(width, crop, stride)
    ]


def _starts(length: int, crop: int, stride: int) -> list[int]:
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - crop), 0) for i in range(count)]


def slide_scores(
    network: MaskNetwork,
    image: Tensor,
    text: Tensor,
    seen: Tensor,
    inference: InferenceConfig,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Average the scores of all windows that see a pixel.

    Args:
        network: Image and text embeddings to mask logits, in evaluation mode.
        image: (3, H, W) float32, normalised, on the network's device; any size.
        text: (K, C) float32 text embeddings on the same device.
        seen: (K,) bool, the classes that the bias is taken from.
        inference: Crop, stride, bias, mirrored averaging, windows a forward pass.
        dtype: Precision of the network's products (autocast); scores are float32 whatever it is.

    Returns:
        (K, H, W) float32 scores on the image's device, in [-bias, 1].
    """
    height, width = image.shape[-2:]
    total = torch.zeros(len(text), height, width, device=image.device)
    coverage = torch.zeros(height, width, device=image.device)
    boxes = window_boxes(height, width, inference.crop, inference.stride)
    with torch.inference_mode(), products_in(dtype, image.device):
        for batch in batched(boxes, inference.window_batch):
            crops = torch.stack([image[:, y1:y2, x1:x2] for y1, x1, y2, x2 in batch])
            scores = _window_scores(network, crops, text, seen, inference)
            for (y1, x1, y2, x2), window in zip(batch, scores, strict=True):
                total[:, y1:y2, x1:x2] += window
                coverage[y1:y2, x1:x2] += 1
    return total.div_(coverage)


def _window_scores(
    network: MaskNetwork, crops: Tensor, text: Tensor, seen: Tensor, inference: InferenceConfig
) -> Tensor:
    """Scores (B, K, h, w) of crops (B, 3, h, w), averaged with those of the mirrored crops where asked."""
    scores = _padded_scores(network, crops, text, seen, inference.seen_bias)
    if inference.flip:
        mirrored = _padded_scores(network, crops.flip(-1), text, seen, inference.seen_bias)
        scores = (scores + mirrored.flip(-1)) / 2
    return scores


def _padded_scores(network: MaskNetwork, crops: Tensor, text: Tensor, seen: Tensor, bias: float) -> Tensor:
    height, width = crops.shape[-2:]
    bottom, right = -height % network.patch_size, -width % network.patch_size
    # Zero is the mean colour after normalisation.
    padded = F.pad(crops, (0, right, 0, bottom)) if bottom or right else crops
    logits = network(padded, text)
    return class_scores(logits, (height + bottom, width + right), seen, bias)[..., :height, :width]


def batched(windows: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The windows in order, `size` at a time; the last batch may be smaller."""
    for start in range(0, len(windows), size):
        yield windows[start : start + size]
