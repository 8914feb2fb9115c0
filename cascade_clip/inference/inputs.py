"""Inputs that users name: images in any form, files, folders and globs, and lists of class names."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.images import IMAGE_SUFFIXES, check_shape, open_image, rgb_of
from cascade_clip.errors import UserError
from cascade_clip.files import usable_path


def find_images(inputs: Sequence[str | Path]) -> list[Path]:
    """Expand files, folders and globs into image files.

    Args:
        inputs: Files (as they are), folders (their images, not those of subfolders), globs ("**" for any depth). What
            exists is taken as it is: in "set [12]/*.png" only the "*" is a pattern where there is a folder "set [12]".

    Returns:
        The files in the order of the inputs, those of a folder or glob sorted; each file once.

    Raises:
        UserError: An input does not exist, or no image was found in it.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _images_of(usable_path(given, "The image")):
            found.setdefault(os.path.realpath(path), path)
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
    kind = _kind_of(given)
    if kind == "file":
        return [given]
    if kind == "folder":
        where, paths = f'was found in the folder "{given}"', _inside(given)
    elif pattern := _pattern(given):
        matches = glob.glob(pattern, recursive=True)  # noqa: PTH207  (absolute patterns)
        where, paths = f'matches "{given}"', [Path(match) for match in matches]
    else:
        raise UserError(f'There is no file or folder "{given}".')
    images = sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir())
    if not images:
        raise UserError(f"No image {where}. Known are files that end in {', '.join(sorted(IMAGE_SUFFIXES))}.")
    return images


def _kind_of(given: Path) -> str:
    """Whether an input is a "file" (or a pipe or broken link, of which is said later what it is), a "folder" or ""."""
    try:
        return "folder" if given.is_dir() else "file" if given.is_symlink() or given.exists() else ""
    except (OSError, ValueError) as error:
        raise UserError(f'"{given}" cannot be read: {getattr(error, "strerror", None) or error}.') from error


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UserError(f'The folder "{folder}" cannot be read: {error.strerror}.') from error


def _pattern(given: Path) -> str:
    """A glob in which the part of a path that exists stands for itself; empty where the rest is no pattern."""
    exists = next((parent for parent in given.parents if parent.exists()), Path())
    rest = given.relative_to(exists)
    if not glob.has_magic(str(rest)):
        return ""
    return str(Path(glob.escape(str(exists)), rest)) if exists.parts else str(rest)


def _possible_stems(image: Path) -> Iterator[str]:
    parent, suffix = Path(os.path.realpath(image)).parent.name, image.suffix.lstrip(".")
    yield image.stem
    if parent:
        yield f"{parent}-{image.stem}"
    if suffix:
        yield f"{image.stem}-{suffix}"
    for number in count(2):
        yield f"{image.stem}-{number}"


log = logging.getLogger(__name__)

ImageInput = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""A file, its bytes, a PIL image, or an (H, W, 3) uint8 RGB array."""


def rgb_pixels(image: ImageInput) -> NDArray[np.uint8]:
    """Read an image as 8-bit RGB, (H, W, 3) uint8.

    Raises:
        UserError: A file that cannot be read, or an array of another shape or type.
    """
    if isinstance(image, Image.Image):
        return rgb_of(image, "The PIL image")
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise UserError(
                f"An image array of shape {image.shape} and type {image.dtype} does not fit: (H, W, 3) uint8 is wanted."
            )
        check_shape(image.shape[0], image.shape[1], "The image array")
        return image
    if not isinstance(image, str | Path | bytes):
        raise UserError(
            "An image is a path, the bytes of a file, a PIL image or an (H, W, 3) uint8 array; got"
            f" {type(image).__name__}."
        )
    return open_image(image, hint=log.warning)
