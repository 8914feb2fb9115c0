"""Turning masks as their images are turned."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.image_file import TURNS
from cascade_clip.data.images import CheckedImage
from cascade_clip.errors import UserError


class FittedLabel(NamedTuple):
    """The label of an image, at its size."""

    label: NDArray[np.uint8]
    """(H, W) uint8."""
    assumed: bool
    """Whether it was turned as the image is though nothing tells, not even its size, which way up it is."""


def fit_label(
    label: NDArray[np.uint8], image: CheckedImage, mask_orientation: Callable[[], int], mask_name: str, image_name: str
) -> FittedLabel:
    """Turn a label as its image is turned, and compare their sizes.

    Every file is turned by its own EXIF orientation. A mask without one belongs to the pixels of the image as they are
    stored, and is turned with them; except where its size tells that it was drawn on the upright image.

    Args:
        label: (H, W) uint8, turned by the mask's own EXIF orientation.
        image: The image.
        mask_orientation: Tells the mask's own EXIF orientation, 1 to 8; asked only where it matters.
        mask_name: What messages call the mask.
        image_name: What messages call the image: "its image a.jpg".

    Raises:
        UserError: Their sizes differ.
    """
    stored = image.size[::-1] if image.orientation > 4 else image.size
    if image.orientation > 1 and label.shape == stored and mask_orientation() == 1:
        turned = Image.fromarray(label).transpose(TURNS[image.orientation])
        return FittedLabel(np.array(turned), assumed=stored == image.size)
    if label.shape != image.size:
        (label_height, label_width), (height, width) = label.shape, image.size
        raise UserError(
            f"{mask_name} has {label_width} x {label_height} pixels, {image_name} has {width} x {height}; "
            f"they must be equal.{_reason(label.shape, image, mask_orientation)}"
        )
    return FittedLabel(label, assumed=False)


def _reason(label: tuple[int, ...], image: CheckedImage, mask_orientation: Callable[[], int]) -> str:
    """What the EXIF orientation has to do with sizes that differ."""
    if label != image.size[::-1]:
        return ""
    both = (("image", image.orientation), ("mask", mask_orientation()))
    whose = [f"the {what}'s is {value}" for what, value in both if value > 1]
    if not whose:
        return " One of them lies on its side: was the EXIF orientation lost when one was saved?"
    return f" One of them lies on its side by its EXIF orientation: {' and '.join(whose)}."
