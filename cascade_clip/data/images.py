"""Reading images and label maps of any common kind into plain 8-bit arrays."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cascade_clip.errors import UserError, raise_refusal

MAX_PIXELS = 1_000_000_000
"""Larger images are refused: one gigapixel already takes 3 GB as an array."""

IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpeg .jpg .pbm .pgm .png .ppm .tga .tif .tiff .webp".split()  # noqa: SIM905
)
"""Endings of a folder's files that count as images; a file that is named outright is tried whatever its ending."""

# Everything that Pillow's decoders are known to raise on broken files.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error)

_INEXACT = {
    "JPEG": ((b"\xff\xd8\xff",), 0),
    "JPEG 2000": ((b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51"), 0),
    "GIF": ((b"GIF8",), 0),
    "WebP": ((b"WEBP",), 8),
    "AVIF or HEIF": ((b"ftyp",), 4),
}
"""Formats that do not keep the values of a mask: the bytes that tell them, and where."""
_limit_lock = Lock()


def open_image(source: Path | str | bytes, name: str | None = None) -> NDArray[np.uint8]:
    """Read an image as 8-bit RGB the way a viewer shows it.

    EXIF orientation is applied; greyscale, palette, 1-bit and CMYK become RGB; transparency is laid over white; 16 bits
    are scaled to 8. Of an animation the first frame is taken.

    Args:
        source: A file, or the bytes of one.
        name: What messages call the image; None: the path.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        UserError: The file is missing, no image, cut off or broken, holds floating-point values, or has more than a
            gigapixel.
    """
    name = name or ("The image" if isinstance(source, bytes) else str(source))
    with _opened(source, name) as image:
        return np.array(to_rgb(ImageOps.exif_transpose(image), name))


def image_size(source: Path | str | bytes, name: str | None = None) -> tuple[int, int]:
    """Decode an image completely and give its size (height, width) after EXIF orientation; raises like `open_image`."""
    name = name or ("The image" if isinstance(source, bytes) else str(source))
    with _opened(source, name) as image:
        return ImageOps.exif_transpose(image).size[::-1]


def decode_label(
    source: Path | str | bytes,
    name: str | None = None,
    *,
    for_colours: str = "Masks in colours need a colour for each class (--colours).",
) -> NDArray[np.uint8]:
    """Read a label map; a palette image keeps its indices.

    Args:
        source: A file or the bytes of one: single-channel 1, 8 or 16 bits.
        name: What messages call the label map; None: the path.
        for_colours: The way out, a sentence of the message about a colour image.

    Returns:
        (H, W) uint8.

    Raises:
        UserError: Missing or broken as in `open_image`; several channels; or a value above 255.
    """
    name = name or ("The label map" if isinstance(source, bytes) else str(source))
    check_exact(source, name)
    with _opened(source, name) as image:
        if len(image.getbands()) > 1:
            raise UserError(f"{name} is a colour image ({image.mode}); an index mask has one channel. {for_colours}")
        values = np.array(image)
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 255:
        raise UserError(f"{name} holds values up to {values.max()}; an index mask holds whole numbers of 0 to 255.")
    return values.astype(np.uint8)


def check_exact(source: Path | str | bytes, name: str) -> None:
    """Refuse a mask in a format that does not keep its values.

    Args:
        source: A file or the bytes of one; a file that cannot be read is left to whatever decodes it.
        name: What messages call the mask.

    Raises:
        UserError: JPEG and its relatives, lossy WebP, or GIF, whose writers renumber indices.
    """
    if isinstance(source, bytes):
        head = source[:64]
    else:
        try:
            with Path(source).open("rb") as file:
                head = file.read(64)
        except OSError:
            return
    for kind, (begins, offset) in _INEXACT.items():
        if any(head.startswith(mark, offset) for mark in begins) and not (kind == "WebP" and b"VP8L" in head):
            reason = "renumbers" if kind == "GIF" else "may change"
            raise UserError(f"{name} is a {kind} file, a format that {reason} class numbers: save masks as PNG.")


def encode_label(label: NDArray[np.uint8]) -> bytes:
    """Encode a label map (H, W) uint8 as a single-channel 8-bit PNG."""
    buffer = io.BytesIO()
    Image.fromarray(label, mode="L").save(buffer, format="PNG")
    return buffer.getvalue()


@contextmanager
def _opened(source: Path | str | bytes, name: str) -> Iterator[Image.Image]:
    """Open and decode completely; every failure becomes one sentence."""
    try:
        with _without_bomb_limit():
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"{name} has {image.width} x {image.height} pixels, at most {MAX_PIXELS:,} are read; shrink it."
                )
            image.load()
            yield image
    except FileNotFoundError as error:
        raise UserError(f"There is no image {name}.") from error
    except IsADirectoryError as error:
        raise UserError(f"{name} is a folder, an image file was expected.") from error
    except _DECODER_ERRORS as error:
        raise_refusal(error, name)
        raise UserError(
            f"{name} cannot be read: it is broken, cut off or no image of a known kind{_reason(error)}."
        ) from error


def _reason(error: BaseException) -> str:
    """What the decoder says, unless it names an object in memory."""
    return "" if "object at 0x" in str(error) or not str(error) else f" ({error})"


@contextmanager
def _without_bomb_limit() -> Iterator[None]:
    """Lift Pillow's own limit, which is far below a gigapixel, while a header is read."""
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert any mode the way a viewer shows it; raises UserError for floating-point values."""
    if image.mode == "F":
        raise UserError(f"{name} holds floating-point values; save it with 8 or 16 bits a channel first.")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")
