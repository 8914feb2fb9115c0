"""Reading images and label maps of any common kind into plain 8-bit arrays."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cascade_clip.data.image_file import OpenedImage, one_sentence, opened_image, orientation_in
from cascade_clip.errors import UserError, readable

MAX_ASPECT = 100
"""Images are refused whose longer side is more than so many times the shorter one: the shorter side is enlarged to some
hundred pixels, so that a line of 1 x 5,000 pixels would become a gigapixel."""

IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpeg .jpg .pbm .pgm .png .ppm .tga .tif .tiff .webp".split()  # noqa: SIM905
)
"""Endings of a folder's files that count as images; a file that is named outright is tried whatever its ending."""

_INEXACT = {
    **dict.fromkeys(("JPEG", "MPO"), "a JPEG file"),
    **dict.fromkeys(("TIFF jpeg", "TIFF tiff_jpeg", "TIFF webp"), "a TIFF file with lossy compression"),
    "AVIF": "an AVIF file",
    "GIF": "a GIF file",
    "JPEG2000": "a JPEG 2000 file",
}
"""Formats that do not keep the values of a mask, by what Pillow calls them."""

_FEW_BITS = re.compile(r"\bL;([24])")
"""Raw modes of grey values of 2 or 4 bits, which Pillow multiplies; a mask's are class numbers as they are stored."""

_RENUMBERED = re.compile(r"\bL;[24]?I|\('[LI]', (?!255\)|65535\))\d+\)")
"""Raw modes of grey values that Pillow inverts or scales: TIFF with white as 0, PGM with another highest value."""

_WHOLE_NUMBERS = "an index mask holds whole numbers of 0 to 255. Save it with 8 bits first."

_SMALL_RANGE = 1 << 14
"""16-bit images without any value from here on get a hint: they hold 14 bits or fewer, as cameras and scanners do."""


class CheckedImage(NamedTuple):
    """What is known of an image that was decoded completely."""

    size: tuple[int, int]
    """Height and width as a viewer shows it, after EXIF orientation."""
    orientation: int
    """EXIF orientation of the file, 1 to 8; 1: stored upright."""
    highest: int | None
    """Largest value where the image has 16 bits a channel and uses a small part of them; None: it does not."""


def open_image(
    source: Path | str | bytes, name: str | None = None, *, hint: Callable[[str], object] | None = None
) -> NDArray[np.uint8]:
    """Read an image, a file or the bytes of one, as 8-bit RGB the way a viewer shows it: (H, W, 3) uint8, contiguous.

    EXIF orientation is applied; greyscale, palette, 1-bit and CMYK become RGB; transparency is laid over white; 16 bits
    are scaled to 8. Of several pages or frames the first is taken. Messages call the image `name` (None: the path);
    `hint` is called with a sentence if there are several, or if it has 16 bits a channel and uses so small a part of
    them that it is nearly black. Raises UserError where the file is missing, may not be read, is no image, cut off or
    broken, holds floating-point values or values above 16 bits, has more than a gigapixel, or is too long for its width
    (`MAX_ASPECT`).
    """
    name = name or ("The image" if isinstance(source, bytes) else readable(source))
    with opened_image(source, name) as image:
        check_shape(image.pixels.height, image.pixels.width, name)
        if hint is not None and image.pages > 1:
            hint(f"{name} holds {image.pages} pages or frames, of which the first is taken.")
        if hint is not None and (highest := _highest_of_small_range(image)) is not None:
            hint(small_range_hint(name, highest))
        return np.array(_to_rgb(image.pixels, name))


def check_image(source: Path | str | bytes, name: str | None = None) -> CheckedImage:
    """Decode an image completely; takes and raises the same as `open_image`."""
    name = name or ("The image" if isinstance(source, bytes) else readable(source))
    with opened_image(source, name) as image:
        height, width = image.pixels.height, image.pixels.width
        check_shape(height, width, name)
        _check_values(image.pixels, name)
        return CheckedImage((height, width), image.orientation, _highest_of_small_range(image))


def rgb_of(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """Convert an open image as `open_image` does: (H, W, 3) uint8 RGB; raises the same."""
    check_shape(image.height, image.width, name)
    with one_sentence(name):
        return np.array(_to_rgb(ImageOps.exif_transpose(image), name))


def check_shape(height: int, width: int, name: str) -> None:
    """Refuse an image of this size if it is too long for its width; see `MAX_ASPECT`. Raises UserError."""
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise UserError(
            f"{name} has {width:,} x {height:,} pixels: the longer side may have at most {MAX_ASPECT} times as many as "
            "the shorter one, which is enlarged for the model. Cut the image into pieces."
        )


def small_range_hint(name: str, highest: int) -> str:
    """The sentence about a 16-bit image that uses a small part of its range; see `CheckedImage.highest`."""
    return (
        f"{name} has 16 bits a channel but no value above {highest:,}. It is read as if 65,535 were white, so that it "
        "looks almost black: scale its values to the full range first."
    )


def decode_label(
    source: Path | str | bytes,
    name: str | None = None,
    *,
    for_colours: str = "Masks in colours need a colour for each class (--colours).",
) -> NDArray[np.uint8]:
    """Read a label map (H, W) uint8; a palette image keeps its indices, and the file's own EXIF orientation is applied.

    The source is a file or bytes: one channel of 1 to 8 or 16 bits. Messages call it `name` (None: the path);
    `for_colours` is the way out that they name for a colour image. Raises UserError where it is missing or broken as in
    `open_image`, has several channels or pages, inverted or scaled values, or a value above 255.
    """
    name = name or ("The label map" if isinstance(source, bytes) else readable(source))
    with _opened_mask(source, name) as (image, raw_mode):
        bands = image.getbands()
        if len(bands) == 2:
            raise UserError(f"{name} has a second channel, transparency; an index mask has one: save it without.")
        if len(bands) > 1:
            raise UserError(f"{name} is a colour image ({image.mode}); an index mask has one channel. {for_colours}")
        if _RENUMBERED.search(raw_mode):
            raise UserError(
                f"{name} stores its values inverted or by a scale of its own, so that readers renumber the classes: "
                "save masks as 8-bit PNG."
            )
        values = np.array(image)
        if few_bits := _FEW_BITS.search(raw_mode):
            values //= 255 // (2 ** int(few_bits[1]) - 1)
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        raise UserError(f"{name} holds floating-point values; {_WHOLE_NUMBERS}")
    if values.min() < 0 or values.max() > 255:
        raise UserError(f"{name} holds values from {values.min()} to {values.max()}; {_WHOLE_NUMBERS}")
    return values.astype(np.uint8)


def mask_colours(source: Path | str | bytes, name: str) -> NDArray[np.uint8]:
    """Read the colours of a mask as stored, those of transparent pixels too, turned by EXIF: (H, W, 3) uint8 RGB.

    Raises UserError as `open_image`, and where the format does not keep colours.
    """
    with _opened_mask(source, name) as (image, _):
        return np.array(_without_transparency(image, name))


def mask_palette(source: bytes) -> dict[int, str]:
    """Colours ("#rrggbb") by index of a palette image; empty for any other file."""
    try:
        with Image.open(io.BytesIO(source)) as image:
            colours = (image.getpalette("RGB") or []) if image.mode == "P" else []
    except Exception:  # what is wrong with the file is said where it is decoded
        return {}
    return {index: "#{:02x}{:02x}{:02x}".format(*colours[3 * index :]) for index in range(len(colours) // 3)}


def orientation_of(source: bytes) -> int:
    """EXIF orientation of an image file, 1 to 8; 1 also where there is none or the file is no image."""
    try:
        with Image.open(io.BytesIO(source)) as image:
            return orientation_in(image)
    except Exception:  # what is wrong with the file is said where it is decoded
        return 1


def encode_label(label: NDArray[np.uint8]) -> bytes:
    """Encode a label map (H, W) uint8 as a single-channel 8-bit PNG."""
    buffer = io.BytesIO()
    Image.fromarray(label, mode="L").save(buffer, format="PNG")
    return buffer.getvalue()


@contextmanager
def _opened_mask(source: Path | str | bytes, name: str) -> Iterator[tuple[Image.Image, str]]:
    """Open a mask, turned upright, with its raw mode; refuse formats that do not keep its values, and several pages."""
    with opened_image(source, name) as image:
        if image.pages > 1:
            raise UserError(f"{name} holds {image.pages} pages or frames; a mask is a single picture.")
        kind = "a WebP file" if image.kind == "WEBP" and _is_lossy_webp(source) else _INEXACT.get(image.kind)
        if kind is not None:
            reason = "renumbers" if image.kind == "GIF" else "may change"
            raise UserError(f"{name} is {kind}, a format that {reason} class numbers: save masks as PNG.")
        yield image.pixels, image.raw_mode


def _is_lossy_webp(source: Path | str | bytes) -> bool:
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    return b"VP8L" not in content[:64]


def _highest_of_small_range(image: OpenedImage) -> int | None:
    pixels = image.pixels
    if pixels.mode.startswith("I"):
        highest = int(np.asarray(pixels).max())
    elif ";16" in image.raw_mode:  # Pillow keeps the upper eight bits of each channel
        colours = [band for name, band in zip(pixels.getbands(), pixels.split(), strict=True) if name != "A"]
        highest = 256 * max(int(np.asarray(band).max()) for band in colours) + 255
    else:
        return None
    return highest if 0 < highest < _SMALL_RANGE else None


def _check_values(image: Image.Image, name: str) -> None:
    """Refuse values that are not of 8 or 16 bits."""
    if image.mode == "F":
        raise UserError(f"{name} holds floating-point values; save it with 8 or 16 bits a channel first.")
    if image.mode == "I":
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise UserError(
                f"{name} holds values from {low:,} to {high:,}; 0 to 65,535 are read. Save it with 8 or 16 bits first."
            )


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert any mode the way a viewer shows it."""
    if image.has_transparency_data and not image.mode.startswith("I"):
        layered = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layered.size, (255, 255, 255, 255)), layered)
    return _without_transparency(image, name)


def _without_transparency(image: Image.Image, name: str) -> Image.Image:
    _check_values(image, name)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    # By way of RGBA, as Pillow warns where the transparency of a palette is dropped.
    return (image.convert("RGBA") if image.has_transparency_data else image).convert("RGB")
