"""The legend of an overlay: swatch, class name and share, legible beside a picture of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from cascade_clip.report.palette import Colour

PAPER: Colour = (250, 250, 248)
INK: Colour = (32, 34, 38)
PALE_INK: Colour = (112, 116, 124)
MOST_ROWS_BELOW = 6
LONGEST_NAME = 13
"""Widest line of a name, in heights of the font; longer names take a second line and are then shortened."""


class LegendEntry(NamedTuple):
    """One line of the legend."""

    name: str
    share: float | None
    """Fraction of the image's pixels, 0..1; None: no figure stands beside the name."""
    colour: Colour | None
    """None: a line without a swatch."""


class _Style:
    """Sizes that all follow from the font."""

    def __init__(self, font_size: int) -> None:
        self.font = ImageFont.load_default(font_size)
        self.size = font_size
        self.line = round(font_size * 1.25)
        self.swatch = round(font_size * 1.1)
        self.gap = round(font_size * 0.6)
        self.margin = round(font_size * 1.2)
        self.row_gap = round(font_size * 0.45)
        self.name_width = font_size * LONGEST_NAME
        self.share_width = max(self.width("100.0 %"), self.width("< 0.1 %"))

    def width(self, text: str) -> int:
        return round(self.font.getlength(text))


def legend_beside(entries: Sequence[LegendEntry], height: int, font_size: int) -> Image.Image:
    """Draw the legend as one column of a given height.

    Args:
        entries: Lines, the most important first; those that do not fit are counted in a last line.
        height: Height of the panel in pixels.
        font_size: Height of the font in pixels.

    Returns:
        An RGB panel as wide as its names need.
    """
    style = _Style(font_size)
    names = [wrapped(entry.name, style.name_width, style.font, lines=2) for entry in entries]
    heights = [len(lines) * style.line + style.row_gap for lines in names]
    shown, space = 0, height - 2 * style.margin
    while shown < len(entries) and sum(heights[: shown + 1]) <= space:
        shown += 1
    if shown < len(entries):  # the line that counts the rest needs a place too
        while shown and sum(heights[:shown]) + style.line > space:
            shown -= 1
        names = [*names[:shown], [_rest_name(entries[shown:])]]
        heights[shown:] = [style.line]
    text_width = max((style.width(line) for lines in names for line in lines), default=0)
    panel = Image.new("RGB", (2 * style.margin + _row_width(style, text_width), height), PAPER)
    top = style.margin
    for entry, lines, row_height in zip(_with_rest(entries, shown), names, heights, strict=True):
        _draw_row(panel, style, (style.margin, top), entry, lines, text_width=text_width)
        top += row_height
    return panel


def legend_below(entries: Sequence[LegendEntry], width: int, font_size: int) -> Image.Image:
    """Draw the legend as a grid of a given width and at most six rows; the arguments are those of `legend_beside`."""
    style = _Style(font_size)
    available = width - 2 * style.margin
    widest = max((style.width(entry.name) for entry in entries), default=0)
    text_width = max(min(widest, style.name_width, available - _row_width(style, 0)), style.width("+ 100 more"))
    column_width = _row_width(style, text_width) + 2 * style.gap
    columns = max(1, (available + 2 * style.gap) // column_width)
    shown = len(entries) if len(entries) <= columns * MOST_ROWS_BELOW else columns * MOST_ROWS_BELOW - 1
    listed = _with_rest(entries, shown)
    rows = -(-len(listed) // columns)
    row_height = style.line + style.row_gap
    panel = Image.new("RGB", (width, 2 * style.margin + rows * row_height - style.row_gap), PAPER)
    for index, entry in enumerate(listed):
        corner = (style.margin + index // rows * column_width, style.margin + index % rows * row_height)
        _draw_row(
            panel, style, corner, entry, wrapped(entry.name, text_width, style.font, lines=1), text_width=text_width
        )
    return panel


def wrapped(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, *, lines: int) -> list[str]:
    """Break a text into at most `lines` lines of at most `width` pixels; what does not fit ends in an ellipsis."""
    broken: list[str] = []
    rest = text
    while rest and len(broken) < lines:
        fitting = _fitting(rest, width, font)
        if fitting == len(rest):
            return [*broken, rest]
        if len(broken) == lines - 1:
            return [*broken, rest[: _fitting(rest, width, font, tail="…")].rstrip() + "…"]
        space = rest.rfind(" ", 1, fitting + 1)
        cut = space if space > 0 else fitting
        broken.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return broken or [""]


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, tail: str = "") -> int:
    """How many characters of a text, at least one, fit a width together with a tail."""
    length = len(text)
    while length > 1 and font.getlength(text[:length] + tail) > width:
        length -= 1
    return length


def percent(share: float) -> str:
    """A share as readers expect it: "34.2 %", and "< 0.1 %" for what is there but rounds to nothing."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _with_rest(entries: Sequence[LegendEntry], shown: int) -> list[LegendEntry]:
    rest = entries[shown:]
    if not rest:
        return list(entries)
    shares = [entry.share for entry in rest if entry.share is not None]
    return [*entries[:shown], LegendEntry(_rest_name(rest), sum(shares) if shares else None, None)]


def _rest_name(rest: Sequence[LegendEntry]) -> str:
    return f"+ {len(rest)} more"


def _row_width(style: _Style, text_width: int) -> int:
    return style.swatch + style.gap + text_width + 2 * style.gap + style.share_width


def _draw_row(
    panel: Image.Image, style: _Style, corner: tuple[int, int], entry: LegendEntry, lines: list[str], *, text_width: int
) -> None:
    left, top = corner
    draw = ImageDraw.Draw(panel)
    middle = top + style.line // 2
    if entry.colour is not None:
        panel.paste(entry.colour, (left, middle - style.swatch // 2), _rounded_square(style.swatch))
    text_left = left + style.swatch + style.gap
    for number, line in enumerate(lines):
        ink = PALE_INK if entry.colour is None else INK
        draw.text((text_left, middle + number * style.line), line, ink, style.font, anchor="lm")
    if entry.share is not None:
        share_right = text_left + text_width + 2 * style.gap + style.share_width
        draw.text((share_right, middle), percent(entry.share), PALE_INK, style.font, anchor="rm")


def _rounded_square(side: int) -> Image.Image:
    """Mask of a swatch; Pillow draws without antialiasing, so it is drawn larger and shrunk."""
    mask = Image.new("L", (4 * side, 4 * side))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * side - 1, 4 * side - 1), side, fill=255)
    return mask.resize((side, side), Image.Resampling.LANCZOS)
