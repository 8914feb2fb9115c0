"""Opening image files: whatever is wrong with one of them becomes one sentence."""

import errno
import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from cascade_clip.errors import UserError, first_line

MAX_PIXELS = 1_000_000_000
"""Larger images are refused: one gigapixel already takes 3 GB as an array."""

_Turn = Image.Transpose
TURNS = {
    2: _Turn.FLIP_LEFT_RIGHT,
    3: _Turn.ROTATE_180,
    4: _Turn.FLIP_TOP_BOTTOM,
    5: _Turn.TRANSPOSE,
    6: _Turn.ROTATE_270,
    7: _Turn.TRANSVERSE,
    8: _Turn.ROTATE_90,
}
"""How an image is turned to be upright, by its EXIF orientation."""

_limit_lock = Lock()


class OpenedImage(NamedTuple):
    """An image that was decoded completely."""

    pixels: Image.Image
    """Turned upright."""
    orientation: int
    """EXIF orientation of the file, 1 to 8; 1: stored upright."""
    raw_mode: str
    """How the file stores a pixel in Pillow's notation, for example "RGB;16B"; empty where that is not known."""
    kind: str
    """The file's format, with the compression inside a TIFF: "PNG", "TIFF jpeg"."""
    pages: int
    """How many pages or frames the file holds; the first is taken."""


@contextmanager
def opened_image(source: Path | str | bytes, name: str) -> Iterator[OpenedImage]:
    """Open an image and decode it completely; in the block, too, every failure becomes one sentence about `name`.

    Raises:
        UserError: The file is missing, may not be read, is no image, cut off or broken, or has more than a gigapixel.
    """
    if not isinstance(source, bytes):
        _check_file(source, name)
    elif not source:
        raise UserError(f"{name} cannot be read: it is empty (0 bytes).")
    with one_sentence(name):
        with _without_bomb_limit():
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        with image:
            _check_size(image, name)
            raw_mode, kind, pages = _raw_mode(image), _kind(image), _pages(image)
            # Pillow turns a TIFF while it loads it. Of other formats some tell their orientation only when loaded.
            turned_by_pillow = orientation_in(image) if image.format == "TIFF" else None
            with _without_bomb_limit() if _is_above_pillows_limit(image) else nullcontext():
                image.load()
            orientation = turned_by_pillow or orientation_in(image)
            turned = image.transpose(TURNS[orientation]) if orientation > 1 and not turned_by_pillow else image
            yield OpenedImage(turned, orientation, raw_mode, kind, pages)


@contextmanager
def one_sentence(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one sentence: each has exceptions of its own, and broken files find more."""
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{name} does not fit into memory; shrink it.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{name} cannot be read: {error.strerror}.") from error
        said = "" if isinstance(error, UnidentifiedImageError) or not str(error) else f" ({first_line(error)})"
        raise UserError(f"{name} cannot be read: it is broken, cut off or no image of a known kind{said}.") from error


def orientation_in(image: Image.Image) -> int:
    """EXIF orientation of an open image, 1 to 8; 1 also where there is none, or a damaged one."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # what a viewer shows of an image does not depend on the rest of its EXIF
        return 1
    return found if found in range(1, 9) else 1


def _check_file(path: Path | str, name: str) -> None:
    """Refuse what is no file before it is opened: reading from a pipe would wait for ever."""
    path = Path(path)
    try:
        about = path.stat()
        if stat.S_ISREG(about.st_mode) and about.st_size:
            path.open("rb").close()
    except FileNotFoundError as error:
        is_link = " It is a link to a file that is not there." if path.is_symlink() else ""
        raise UserError(f"There is no image {name}.{is_link}") from error
    except OSError as error:
        reason = "it is a link that leads back to itself" if error.errno == errno.ELOOP else error.strerror
        raise UserError(f"{name} cannot be read: {reason}.") from error
    except ValueError as error:
        raise UserError(f"{name!r} is no path: {error}.") from error
    if stat.S_ISDIR(about.st_mode):
        raise UserError(f"{name} is a folder, an image file was expected.")
    if not stat.S_ISREG(about.st_mode):
        raise UserError(f"{name} is a pipe, socket or device, an image file was expected.")
    if not about.st_size:
        raise UserError(f"{name} cannot be read: it is empty (0 bytes).")


def _check_size(image: Image.Image, name: str) -> None:
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise UserError(
            f"{name} has {image.width} x {image.height} pixels, at most {MAX_PIXELS:,} are read; shrink it."
        )
    if not pixels:
        raise UserError(f"{name} has no pixel ({image.width} x {image.height}).")


def _is_above_pillows_limit(image: Image.Image) -> bool:
    return Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS


@contextmanager
def _without_bomb_limit() -> Iterator[None]:
    """Lift Pillow's own limit, which is far below a gigapixel."""
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if tiles else ""


def _kind(image: Image.Image) -> str:
    compression = str(image.info.get("compression", "")) if image.format == "TIFF" else ""
    return f"{image.format} {compression}".strip()


def _pages(image: Image.Image) -> int:
    """Number of pages or frames; 1 where a TIFF's others are smaller copies or say which pixels are transparent."""
    size = image.size
    try:
        count = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
        if image.format == "TIFF" and count > 1:
            image.seek(1)
            transparency = image.getexif().get(ExifTags.Base.NewSubfileType, 0) & 4
            count = count if image.size == size and not transparency else 1
    except Exception:  # damage behind the first page does not concern it
        count = 1
    image.seek(0)
    return count
