"""Inputs that users name: images in any form, files, folders and globs, and lists of class names."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cascade_clip.data.images import IMAGE_SUFFIXES, open_image, to_rgb
from cascade_clip.errors import UserError


def find_images(inputs: Sequence[str | Path]) -> list[Path]:
    """Expand files, folders and globs into image files.

    Args:
        inputs: Files (as they are), folders (their images, not those of subfolders), globs ("**" for any depth).

    Returns:
        The files in the order of the inputs, those of a folder or glob sorted; each file once.

    Raises:
        UserError: An input does not exist, or no image was found in it.
    """
    found: dict[Path, Path] = {}
    for given in inputs:
        for path in _images_of(Path(given).expanduser()):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def output_stems(images: Sequence[Path], taken: Callable[[str, Path], bool] | None = None) -> list[str]:
    """Name the output files of images, each given once, so that none overwrites another's.

    Args:
        images: The files.
        taken: Says of a stem and a file whether the stem is another file's already.

    Returns:
        The stem of each file; where that is taken (case does not matter), with its folder's name in front or its suffix
        behind, else with a number.
    """
    stems: dict[str, str] = {}
    for image in images:
        stem = next(
            name
            for name in _possible_stems(image)
            if name.casefold() not in stems and not (taken is not None and taken(name, image))
        )
        stems[stem.casefold()] = stem
    return list(stems.values())


def _images_of(given: Path) -> list[Path]:
    if given.is_file():
        return [given]
    if given.is_dir():
        where, paths = f'was found in the folder "{given}"', list(given.iterdir())
    elif glob.has_magic(str(given)):
        matches = glob.glob(str(given), recursive=True)  # noqa: PTH207  (absolute patterns)
        where, paths = f'matches "{given}"', [Path(match) for match in matches]
    else:
        raise UserError(f'There is no file or folder "{given}".')
    images = sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not images:
        raise UserError(f"No image {where}. Known are files that end in {', '.join(sorted(IMAGE_SUFFIXES))}.")
    return images


def _possible_stems(image: Path) -> Iterator[str]:
    parent, suffix = image.resolve().parent.name, image.suffix.lstrip(".")
    yield image.stem
    if parent:
        yield f"{parent}-{image.stem}"
    if suffix:
        yield f"{image.stem}-{suffix}"
    for number in count(2):
        yield f"{image.stem}-{number}"


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
    if not isinstance(image, str | Path | bytes):
        raise UserError(
            "An image is a path, the bytes of a file, a PIL image or an (H, W, 3) uint8 array; got"
            f" {type(image).__name__}."
        )
    return open_image(image)
