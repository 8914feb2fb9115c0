"""Sliding window: the scores of a whole image from a network that sees one crop at a time (SPEC section 5)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, repeat
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.inference.class_scores import class_scores, resize_maps
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
        offset: Row and column at which the window begins in what was filled up.
    """

    size: tuple[int, int]
    boxes: Sequence[WindowBox]
    logits: Tensor
    mirrored: Tensor | None
    padded: tuple[int, int]
    offset: tuple[int, int] = (0, 0)


def window_boxes(height: int, width: int, crop: int, stride: int) -> list[WindowBox]:
    """Windows that cover an image, row by row; the last of each axis is shifted back to end at the border.

    `crop` is the side of the square windows, `stride`, at most `crop`, their distance, in pixels like all of these; an
    image side below `crop` is taken whole.
    """
    return [
        (y1, x1, min(y1 + crop, height), min(x1 + crop, width))
        for y1 in _starts(height, crop, stride)
        for x1 in _starts(width, crop, stride)
    ]


def boxes_of(size: tuple[int, int], inference: InferenceConfig) -> list[WindowBox]:
    """The windows of a resized image of `size` (height, width), or the whole of it where the settings say so."""
    free = inference.training_free
    if free is not None and free.whole_image:
        return [(0, 0, *size)]
    return window_boxes(*size, inference.crop, inference.stride)


def window_batches(images: Sequence[Tensor], inference: InferenceConfig, patch_size: int) -> Iterator[WindowBatch]:
    """Cut the windows of images (3, H, W); windows of one size share batches, whichever image they are from.

    They are filled up to multiples of the patch size with 0, the mean colour after normalisation (see `_fill` for
    training-free models), and come in the order of the images and of each image's `boxes_of`.
    """
    of_all = [(image, box) for image in images for box in boxes_of(_image_size(image), inference)]
    for _, alike in groupby(of_all, key=lambda window: _size(window[1])):
        crops = [image[:, y1:y2, x1:x2] for image, (y1, x1, y2, x2) in alike]
        fill = _fill(_image_size(crops[0]), inference, patch_size)
        for first in range(0, len(crops), inference.window_batch):
            stacked = torch.stack(crops[first : first + inference.window_batch])
            yield WindowBatch(F.pad(stacked, fill), F.pad(stacked.flip(-1), fill) if inference.flip else None)


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

    The network is in evaluation mode; the images (3, H, W) float32, normalised, of any sizes, and text embeddings (K,
    C) lie on its device. `dtype` is the precision of its products (autocast); logits are always float32. `batches` are
    the windows of these images, where they were encoded before; None: they are cut here, a batch at a time.
    """
    patch_size = network.patch_size
    batches = window_batches(images, inference, patch_size) if batches is None else batches
    with torch.inference_mode(), products_in(dtype, images[0].device):
        windows = chain.from_iterable(_logits(network, batch, text) for batch in batches)
        return [_of_image(_image_size(image), windows, inference, patch_size) for image in images]


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
    Those of a training-free network are its cosines.
    """
    (windows,) = window_logits(network, [image], text, inference, dtype=dtype)
    if inference.training_free is not None:
        return averaged_cosines(windows)
    return averaged_scores(windows, seen, inference.seen_bias)


@torch.inference_mode()
def averaged_scores(windows: WindowLogits, seen: Tensor, bias: float) -> Tensor:
    """Scores (K, H, W) float32 in [-bias, 1] of every class, at the size at which an image's windows were cut.

    `bias` is subtracted from the scores of classes that are `seen`, (K,) bool.
    """
    return _averaged(windows, lambda logits: class_scores(logits[None], windows.padded, seen, bias)[0])


@torch.inference_mode()
def averaged_cosines(windows: WindowLogits) -> Tensor:
    """Cosines (Q, H, W) float32 of every query, at the size at which an image's windows were cut."""
    return _averaged(windows, lambda cosines: resize_maps(cosines, windows.padded))


def _averaged(windows: WindowLogits, upsampled: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean (K, H, W) over windows of maps that `upsampled` takes from (K, h, w) to the size of a filled window."""
    total = torch.zeros(windows.logits.shape[1], *windows.size, device=windows.logits.device)
    coverage = torch.zeros(windows.size, device=total.device)
    top, left = windows.offset
    for number, (y1, x1, y2, x2) in enumerate(windows.boxes):
        inside = (..., slice(top, top + y2 - y1), slice(left, left + x2 - x1))
        scores = upsampled(windows.logits[number])[inside]
        if windows.mirrored is not None:
            scores = (scores + upsampled(windows.mirrored[number])[inside].flip(-1)) / 2
        total[:, y1:y2, x1:x2] += scores
        coverage[y1:y2, x1:x2] += 1
    return total.div_(coverage)


def _starts(length: int, crop: int, stride: int) -> list[int]:
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - crop), 0) for i in range(count)]


def _image_size(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


def _fill(size: tuple[int, int], inference: InferenceConfig, patch_size: int) -> tuple[int, int, int, int]:
    """Columns left and right and rows above and below that fill a window of `size` up.

    Windows of training-free models are filled up on all sides or not at all: most methods leave pixels unseen that make
    no whole patch, and scores of the others are stretched over the window.
    """
    height, width = (-side % patch_size for side in size)
    free = inference.training_free
    if free is None:
        return 0, width, 0, height
    if free.whole_image or not free.pad_windows:
        return 0, 0, 0, 0
    return width // 2, width - width // 2, height // 2, height - height // 2


def _logits(network: MaskNetwork, batch: WindowBatch, text: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Logits (K, h, w) of each window, and those of the mirrored window."""
    mirrored = repeat(None) if batch.mirrored is None else network(batch.mirrored, text).float()
    return zip(network(batch.images, text).float(), mirrored, strict=False)


def _of_image(
    size: tuple[int, int], windows: Iterator[tuple[Tensor, Tensor | None]], inference: InferenceConfig, patch_size: int
) -> WindowLogits:
    """Take the windows of a resized image of `size` off the stream of all windows."""
    boxes = boxes_of(size, inference)
    height, width = _size(boxes[0])
    left, right, above, below = _fill((height, width), inference, patch_size)
    logits, mirrored = zip(*(next(windows) for _ in boxes), strict=True)
    return WindowLogits(
        size=size,
        boxes=boxes,
        logits=torch.stack(logits),
        mirrored=None if mirrored[0] is None else torch.stack(mirrored),
        padded=(above + height + below, left + width + right),
        offset=(above, left),
    )


def _size(box: WindowBox) -> tuple[int, int]:
    y1, x1, y2, x2 = box
    return y2 - y1, x2 - x1
