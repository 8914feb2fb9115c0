"""Sliding window: the scores of a whole image from a network that sees one crop at a time (SPEC section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, repeat
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.inference.class_scores import class_scores
from cascade_clip.runtime import products_in

WindowBox = tuple[int, int, int, int]
"""A window as (y1, x1, y2, x2) in pixels; y2 and x2 are outside."""


class MaskNetwork(Protocol):
    """The network as inference needs it, in evaluation mode."""

    @property
    def patch_size(self) -> int:
        """Side of a patch; the sides of an image must be multiples of it."""
        ...

    def __call__(self, image: Any, text: Tensor) -> Tensor:
        """Image (B, 3, H, W) float and text embeddings (K, C) to mask logits (B, K, h, w)."""
        ...


@runtime_checkable
class EncodingNetwork(MaskNetwork, Protocol):
    """A network that encodes an image once for any number of vocabularies."""

    def encode(self, image: Tensor) -> Any:
        """Encode an image (B, 3, H, W) into a value that `__call__` takes in its place, with equal results."""
        ...


class WindowBatch(NamedTuple):
    """Windows of one size that run through the network together."""

    images: Any
    """(B, 3, h, w) pixels, filled up to whole patches, or the result of the network's `encode`."""
    mirrored: Any | None
    """The mirrored windows; None where scores are not averaged with them."""


@dataclass(frozen=True)
class WindowLogits:
    """Mask logits of the W windows of one image.

    Attributes:
        size: Height and width of the image in which the windows are.
        boxes: W windows, row by row, all of one size.
        logits: (W, K, h, w) float32, the mask logits of each window on its grid of patches.
        mirrored: Those of the mirrored windows; None where scores are not averaged with them.
        padded: Height and width of the window, filled up to whole patches.
    """

    size: tuple[int, int]
    boxes: Sequence[WindowBox]
    logits: Tensor
    mirrored: Tensor | None
    padded: tuple[int, int]


def window_boxes(height: int, width: int, crop: int, stride: int) -> list[WindowBox]:
    """Windows that cover an image, row by row; the last of each axis is shifted back to end at the border.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        crop: Side of the square window; an image side below it is taken whole.
        stride: Distance of windows, at most `crop`.
    """
    return [
        (y1, x1, min(y1 + crop, height), min(x1 + crop, width))
        for y1 in _starts(height, crop, stride)
        for x1 in _starts(width, crop, stride)
    ]


def window_batches(images: Sequence[Tensor], inference: InferenceConfig, patch_size: int) -> Iterator[WindowBatch]:
    """Cut the windows of images (3, H, W); windows of one size share batches, whichever image they are from.

    They are filled up to multiples of the patch size with 0, the mean colour after normalisation, and come in the order
    of the images and of each image's `window_boxes`.
    """
    of_all = [(image, box) for image in images for box in _boxes(image, inference)]
    for _, alike in groupby(of_all, key=lambda window: _size(window[1])):
        crops = [image[:, y1:y2, x1:x2] for image, (y1, x1, y2, x2) in alike]
        for first in range(0, len(crops), inference.window_batch):
            yield _stacked(crops[first : first + inference.window_batch], inference, patch_size)


def encoded_batches(
    network: EncodingNetwork, batches: Iterable[WindowBatch], dtype: torch.dtype, device: torch.device
) -> list[WindowBatch]:
    """Encode windows on the network's device once, for `window_logits` to decode for any number of vocabularies."""
    with torch.inference_mode(), products_in(dtype, device):
        return [WindowBatch(*(None if part is None else network.encode(part) for part in batch)) for batch in batches]


def window_logits(
    network: MaskNetwork,
    images: Sequence[Tensor],
    text: Tensor,
    inference: InferenceConfig,
    *,
    dtype: torch.dtype = torch.float32,
    batches: Iterable[WindowBatch] | None = None,
) -> list[WindowLogits]:
    """Run the network over the windows of images.

    Args:
        network: Image and text embeddings to mask logits, in evaluation mode.
        images: (3, H, W) float32 each, normalised, on the network's device; any sizes.
        text: (K, C) float32 text embeddings on the same device.
        inference: Crop, stride, mirrored averaging, windows a forward pass.
        dtype: Precision of the network's products (autocast); logits are always float32.
        batches: The windows of these images, where they were encoded before; None: cut here, a batch at a time.
    """
    patch_size = network.patch_size
    batches = window_batches(images, inference, patch_size) if batches is None else batches
    with torch.inference_mode(), products_in(dtype, images[0].device):
        windows = chain.from_iterable(_logits(network, batch, text) for batch in batches)
        return [_of_image(image, _boxes(image, inference), windows, patch_size) for image in images]


def slide_scores(
    network: MaskNetwork,
    image: Tensor,
    text: Tensor,
    seen: Tensor,
    inference: InferenceConfig,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Average the scores of all windows that cover a pixel: (K, H, W) float32 in [-bias, 1] on the image's device.

    The bias is subtracted from the scores of classes that are `seen`, (K,) bool; for the others see `window_logits`.
    """
    (windows,) = window_logits(network, [image], text, inference, dtype=dtype)
    return averaged_scores(windows, seen, inference.seen_bias)


@torch.inference_mode()
def averaged_scores(windows: WindowLogits, seen: Tensor, bias: float) -> Tensor:
    """Scores (K, H, W) float32 in [-bias, 1] of every class, at the size at which an image's windows were cut.

    `bias` is subtracted from the scores of classes that are `seen`, (K,) bool.
    """
    total = torch.zeros(windows.logits.shape[1], *windows.size, device=windows.logits.device)
    coverage = torch.zeros(windows.size, device=total.device)
    for number, (y1, x1, y2, x2) in enumerate(windows.boxes):
        height, width = y2 - y1, x2 - x1
        scores = class_scores(windows.logits[number, None], windows.padded, seen, bias)[0, :, :height, :width]
        if windows.mirrored is not None:
            mirrored = class_scores(windows.mirrored[number, None], windows.padded, seen, bias)
            scores = (scores + mirrored[0, :, :height, :width].flip(-1)) / 2
        total[:, y1:y2, x1:x2] += scores
        coverage[y1:y2, x1:x2] += 1
    return total.div_(coverage)


def _starts(length: int, crop: int, stride: int) -> list[int]:
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - crop), 0) for i in range(count)]


def _boxes(image: Tensor, inference: InferenceConfig) -> list[WindowBox]:
    return window_boxes(image.shape[-2], image.shape[-1], inference.crop, inference.stride)


def _stacked(crops: Sequence[Tensor], inference: InferenceConfig, patch_size: int) -> WindowBatch:
    height, width = crops[0].shape[-2:]
    fill = (0, -width % patch_size, 0, -height % patch_size)
    stacked = torch.stack(list(crops))
    return WindowBatch(F.pad(stacked, fill), F.pad(stacked.flip(-1), fill) if inference.flip else None)


def _logits(network: MaskNetwork, batch: WindowBatch, text: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Logits (K, h, w) of each window, and those of the mirrored window."""
    mirrored = repeat(None) if batch.mirrored is None else network(batch.mirrored, text).float()
    return zip(network(batch.images, text).float(), mirrored, strict=False)


def _of_image(
    image: Tensor, boxes: Sequence[WindowBox], windows: Iterator[tuple[Tensor, Tensor | None]], patch_size: int
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


def _size(box: WindowBox) -> tuple[int, int]:
    y1, x1, y2, x2 = box
    return y2 - y1, x2 - x1
