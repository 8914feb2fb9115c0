"""Whatever a caller has for an image, as pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cascade_clip.data.images import open_image, to_rgb
from cascade_clip.errors import UserError

ImageInput = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""A file, its bytes, a PIL image, or an (H, W, 3) uint8 RGB array."""


def rgb_pixels(image: ImageInput) -> NDArray[np.uint8]:
    """Read an image as 8-bit RGB, (H, W, 3) uint8.

    Raises:
        UserError: A file that cannot be read, or an array of another shape or type.
    """
    if isinstance(image, Image.Image):
        return np.array(to_rgb(ImageOps.exif_transpose(image), "The PIL image"))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise UserError(
                f"An image array of shape {image.shape} and type {image.dtype} does not fit: (H, W, 3) uint8 is wanted."
            )
        return image
    return open_image(image)
