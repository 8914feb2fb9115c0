"""One image of any size to its labels: resize, normalise, slide, resize the scores back, take the best class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade_clip.config.schema import DataConfig, InferenceConfig
from cascade_clip.data.resize import resize_bilinear, test_size
from cascade_clip.data.transforms import normalise
from cascade_clip.errors import UserError
from cascade_clip.inference.scores import Labels, labels_from_scores
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.inference.sliding_window import MaskNetwork, slide_scores

LARGEST_SCORES = 2**32
"""Most scores (K·h·w) of a resized image: 16 GiB. Only extremely long and narrow images come near it."""


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
        UserError: The image is so narrow that its scores would not fit into memory.
    """
    height, width = image.shape[:2]
    _check_scores_fit(height, width, len(text), data.short_side)
    pixels = torch.from_numpy(prepare_image(image, data)).to(device)
    scores = slide_scores(network, pixels, text.to(device), seen.to(device), inference, dtype=dtype)
    return labels_from_scores(scores, (height, width), threshold)


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
        UserError: The image is so narrow that its scores would not fit into memory.
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


def _check_scores_fit(height: int, width: int, classes: int, short_side: int) -> None:
    resized_height, resized_width = test_size(height, width, short_side)
    if classes * resized_height * resized_width > LARGEST_SCORES:
        raise UserError(
            f"The image is {width} x {height} pixels: with its short side at {short_side} its long side has "
            f"{max(resized_height, resized_width)}, and the scores of {classes} classes do not fit into memory. "
            "Cut it into pieces or give fewer classes."
        )
