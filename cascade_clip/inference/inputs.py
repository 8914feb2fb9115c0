"""What a user points at: images in any form, files, folders and globs, and lists of class names."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
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
    found = [path for given in inputs for path in _images_of(Path(given).expanduser())]
    by_place: dict[Path, Path] = {}
    for path in found:
        by_place.setdefault(path.resolve(), path)
    return list(by_place.values())


def output_stems(images: Sequence[Path]) -> list[str]:
    """Give every image a name for its output files, so that none overwrites another's.

    Args:
        images: Files, each once.

    Returns:
        The stem of the file; where that is taken (case does not matter), with its folder's name or its suffix in front
        or behind, else with a number.
    """
    taken: set[str] = set()
    stems: list[str] = []
    for image in images:
        stem = next(name for name in _possible_stems(image) if name.casefold() not in taken)
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def read_class_file(path: Path) -> list[str]:
    """Read class names from a text file, one a line; blank lines and lines that start with # are left out.

    Raises:
        UserError: No such text file, or no name in it.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f'The class file "{path}" cannot be read: {error.strerror or error}.') from error
    except UnicodeDecodeError as error:
        raise UserError(f'The class file "{path}" is no UTF-8 text: write one class name a line.') from error
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise UserError(f'The class file "{path}" holds no class name: write one a line.')
    return names


def _images_of(given: Path) -> list[Path]:
    if given.is_file():
        return [given]
    if given.is_dir():
        images = _only_images(given.iterdir())
        if not images:
            raise UserError(f'No image was found in the folder "{given}". Known are files that end in {_suffixes()}.')
        return images
    if not glob.has_magic(str(given)):
        raise UserError(f'There is no file or folder "{given}".')
    images = _only_images(Path(match) for match in glob.glob(str(given), recursive=True))  # noqa: PTH207  (absolute patterns)
    if not images:
        raise UserError(f'No image matches "{given}". Known are files that end in {_suffixes()}.')
    return images


def _only_images(paths: Iterator[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


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
    return open_image(image)
