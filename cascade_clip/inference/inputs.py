"""One image in any form that a caller has it: file, address, bytes, PIL image, array, tensor."""

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cascade_clip.data.images import check_shape, open_image, rgb_of
from cascade_clip.errors import UserError
from cascade_clip.inference.web_files import check_address, is_address, read_address

log = logging.getLogger(__name__)

ImageInput = str | Path | bytes | Image.Image | NDArray[np.uint8] | Tensor
"""A file, its http:// or https:// address, its bytes, a PIL image, an (H, W, 3) uint8 RGB array, or a (3, H, W) RGB
tensor: uint8, or floating-point in [0, 1] as torchvision's `ToTensor` gives it."""


def source_of(image: ImageInput) -> str | None:
    """Path or address of an image as results name it; None: it comes from memory."""
    if not isinstance(image, str | Path):
        return None
    return check_address(image) if isinstance(image, str) and is_address(image) else str(image)


def rgb_pixels(image: ImageInput, name: str | None = None) -> NDArray[np.uint8]:
    """Read an image as 8-bit RGB, (H, W, 3) uint8, else raise UserError; messages call it `name`, or by its path."""
    if isinstance(image, Image.Image):
        return rgb_of(image, "The PIL image")
    if isinstance(image, Tensor):
        return _pixels_of(image)
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise UserError(
                f"An image array of shape {image.shape} and type {image.dtype} does not fit: (H, W, 3) uint8 is wanted."
            )
        check_shape(image.shape[0], image.shape[1], "The image array")
        return image
    if not isinstance(image, str | Path | bytes):
        raise UserError(
            "An image is a path, an address, the bytes of a file, a PIL image, an (H, W, 3) uint8 array or a (3, H, W)"
            f" tensor; got {type(image).__name__}."
        )
    if isinstance(image, str) and is_address(image):
        return open_image(read_address(image), check_address(image), hint=log.warning)
    return open_image(image, name, hint=log.warning)


def _pixels_of(tensor: Tensor) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) uint8 of an image tensor (3, H, W)."""
    shape = tuple(tensor.shape)
    if tensor.ndim != 3 or shape[0] != 3 or not tensor.numel():
        way = "give a list of its images" if tensor.ndim == 4 else "permute it"
        raise UserError(f"An image tensor of shape {shape} does not fit: (3, H, W) is wanted; {way}.")
    check_shape(shape[1], shape[2], "The image tensor")
    values = tensor.detach().cpu()
    if values.is_floating_point():
        values = values.float()
        low, high = values.min().item(), values.max().item()
        if not (low >= 0 and high <= 1):
            raise UserError(
                f"An image tensor holds values from {low:.3g} to {high:.3g}: floating-point ones are RGB in [0, 1],"
                " not normalised; or give uint8."
            )
        values = (values * 255).round().to(torch.uint8)
    elif values.dtype != torch.uint8:
        raise UserError(f"An image tensor of type {tensor.dtype} does not fit: uint8, or floating-point in [0, 1].")
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy())
