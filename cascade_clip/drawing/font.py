"""The font of legends and captions: Pillow's own, or one of the system's for letters that it lacks, such as é."""

from collections.abc import Iterable
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SYSTEM_FONTS = (
    *(
        "DejaVuSans.ttf",
        "NotoSans-Regular.ttf",
        "LiberationSans-Regular.ttf",
        "NotoSansCJK-Regular.ttc",
        "wqy-microhei.ttc",
    ),
    *("Arial Unicode.ttf", "arial.ttf", "segoeui.ttf", "msyh.ttc", "YuGothM.ttc"),
)
"""Fonts of Linux, macOS and Windows that have more letters, those with Latin, Greek and Cyrillic ones first."""
_NOWHERE = "\uffff"
"""A code point that no font has a letter for."""


def font_for(texts: Iterable[str], size: int) -> Font:
    """Choose the font of a height in pixels that has most letters of some texts; where several have all, the first."""
    letters = frozenset(letter for text in texts for letter in text if not letter.isspace())
    own = ImageFont.load_default(size)
    if not _missing(own, letters):
        return own
    return min(
        (own, *filter(None, (_system_font(name, size) for name in SYSTEM_FONTS))), key=lambda f: _missing(f, letters)
    )


@lru_cache(maxsize=64)
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _missing(font: Font, letters: Iterable[str]) -> int:
    """How many of some letters a font shows as an empty box."""
    box = bytes(font.getmask(_NOWHERE))
    return sum(bytes(font.getmask(letter)) == box for letter in letters)
