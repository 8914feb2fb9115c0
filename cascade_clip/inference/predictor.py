"""One image of any size to its labels: resize, normalise, slide, resize the scores back, take the best class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade_clip.config.schema import DataConfig, InferenceConfig
from cascade_clip.data.resize import resize_bilinear, test_size
from cascade_clip.data.transforms import normalise
from cascade_clip.errors import UserError
from cascade_clip.inference.scores import Labels
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.inference.sliding_window import MaskNetwork, window_boxes
from cascade_clip.inference.tile_labels import TileLabels
from cascade_clip.inference.window_logits import window_logits

LARGEST_LOGITS = 2**28
"""Most mask logits of an image's windows: 1 GiB. Only extremely long and narrow images come near it."""


def prepare_image(image: NDArray[np.uint8], data: DataConfig) -> NDArray[np.float32]:
    """Bring the short side to `data.short_side` and normalise (SPEC section 1, test resize).

    Args:
        image: (H, W, 3) uint8 RGB.
        data: Length of the short side, mean and standard deviation.

    Returns:
        (3, h, w) float32.
    """
    height, width = test_size(image.shape[0], image.shape[1], data.short_side)
    return normalise(resize_bilinear(image, height, width), data.mean, data.std)


def label_image(
    network: MaskNetwork,
    image: NDArray[np.uint8],
    text: Tensor,
    seen: Tensor,
    *,
    data: DataConfig,
    inference: InferenceConfig,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    threshold: float | None = None,
) -> Labels:
    """Segment one image and leave the result on the device.

    Labels and scores are those of `labels_from_scores(slide_scores(...))`, without its work for classes that cannot win
    (`TileLabels`).

    Args:
        network: The network in evaluation mode, on `device`.
        image: (H, W, 3) uint8 RGB.
        text: (K, C) float32 text embeddings, unit vectors.
        seen: (K,) bool, classes whose scores the bias is taken from.
        data: How the image is brought to the network.
        inference: Crop, stride, bias, mirrored averaging, windows a forward pass.
        device: Where the network runs.
        dtype: Precision of the network's products; scores are float32.
        threshold: Pixels whose winning score is below it belong to no class; none: every pixel has a class.

    Returns:
        Labels and winning scores at the image's own size.

    Raises:
        UserError: The image is so narrow that its logits would not fit into memory.
    """
    best = torch.empty(image.shape[:2], device=device)
    (tiles,) = _tiles(network, [image], text, seen, data=data, inference=inference, device=device, dtype=dtype)
    return Labels(tiles.write(best, threshold), best)


def label_maps(
    network: MaskNetwork,
    images: Iterable[NDArray[np.uint8]],
    text: Tensor,
    seen: Tensor,
    *,
    data: DataConfig,
    inference: InferenceConfig,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    together: int | None = None,
) -> Iterator[Tensor]:
    """Segment many images without their scores; the other arguments are those of `label_image`.

    Args:
        images: (H, W, 3) uint8 RGB each, any sizes.
        together: Images whose windows share batches; none: what suits the device. A CPU is no faster with several,
            and there an image's labels stay free of the last bit that a batch's other windows may change.

    Yields:
        (H, W) labels of each image, in order, on the device.

    Raises:
        UserError: An image is so narrow that its logits would not fit into memory.
    """
    together = together or images_together(inference, device)
    stream, text, seen = iter(images), text.to(device), seen.to(device)
    while some := list(islice(stream, together)):
        for tiles in _tiles(network, some, text, seen, data=data, inference=inference, device=device, dtype=dtype):
            yield tiles.write()


def images_together(inference: InferenceConfig, device: torch.device) -> int:
    """How many images share batches of windows in `label_maps` unless it is told."""
    return 1 if device.type == "cpu" else inference.window_batch


def _tiles(
    network: MaskNetwork,
    images: Sequence[NDArray[np.uint8]],
    text: Tensor,
    seen: Tensor,
    *,
    data: DataConfig,
    inference: InferenceConfig,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[TileLabels]:
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    for height, width in sizes:
        _check_logits_fit(height, width, len(text), data.short_side, inference, network.patch_size)
    pixels = [torch.from_numpy(prepare_image(image, data)).to(device) for image in images]
    windows = window_logits(network, pixels, text.to(device), inference, dtype=dtype)
    for size, of_image in zip(sizes, windows, strict=True):
        yield TileLabels(of_image, size, seen.to(device), inference.seen_bias)


def segment_image(
    network: MaskNetwork,
    image: NDArray[np.uint8],
    text: Tensor,
    seen: Tensor,
    data: DataConfig,
    inference: InferenceConfig,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    threshold: float | None = None,
    *,
    classes: Sequence[str] | None = None,
) -> Segmentation:
    """Segment one image; the arguments are those of `label_image`.

    Args:
        classes: The K class names; none: "class 0", "class 1" and so on.

    Returns:
        Labels uint8 (uint16 above 255 classes) and winning scores float32 at the image's own size.

    Raises:
        UserError: The image is so narrow that its logits would not fit into memory.
    """
    result = label_image(
        network,
        image,
        text,
        seen,
        data=data,
        inference=inference,
        device=device,
        dtype=dtype,
        threshold=threshold,
    )
    return Segmentation(
        labels=_label_array(result.labels),
        scores=result.scores.cpu().numpy(),
        classes=tuple(classes) if classes is not None else tuple(f"class {index}" for index in range(len(text))),
    )


def _label_array(labels: Tensor) -> NDArray[np.uint8] | NDArray[np.uint16]:
    array = labels.cpu().numpy()
    return array if array.dtype == np.uint8 else array.astype(np.uint16)


def _check_logits_fit(
    height: int, width: int, classes: int, short_side: int, inference: InferenceConfig, patch_size: int
) -> None:
    resized_height, resized_width = test_size(height, width, short_side)
    boxes = window_boxes(resized_height, resized_width, inference.crop, inference.stride)
    y1, x1, y2, x2 = boxes[0]
    patches = -(-(y2 - y1) // patch_size) * -(-(x2 - x1) // patch_size)
    if classes * len(boxes) * patches > LARGEST_LOGITS:
        raise UserError(
            f"The image is {width} x {height} pixels: with its short side at {short_side} its long side has "
            f"{max(resized_height, resized_width)}, and the mask logits of {classes} classes do not fit into memory. "
            "Cut it into pieces or give fewer classes."
        )
