"""A segmentation as a picture: the image under its classes' colours, with a legend; and pictures in a grid."""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate, chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from cascade_clip.drawing.font import Font, font_for
from cascade_clip.drawing.palette import INK, PALE_INK, PAPER, Colour, sequential_colour
from cascade_clip.labels import LabelMap

SMALLEST, LARGEST = 800, 4096
"""Range of the longer side of an overlay: large enough for a legible legend, small enough for a sensible file."""
WIDE = 2.0
"""Pictures at least this many times as wide as high have their legend below."""
DARKEST, BRIGHTEST = 50, 235
"""Range of the photo under the colours: on black or on white, different colours would look alike."""
STRENGTH = 0.5
"""Weight of the class colour against the image."""
MOST_ROWS_BELOW = 6
LONGEST_NAME = 13
"""Widest line of a name, in heights of the font; longer names take a second line and are then shortened."""
SMALLEST_FONT, FONTS_A_WIDTH = 18, 55
"""Pixels of a sheet's text, and its height in a sheet's width: legible where a page shows the sheet 850 pixels wide."""
CELL_HEIGHT = 360
MARGIN = 16


class LegendEntry(NamedTuple):
    """One line of the legend."""

    name: str
    share: float | None
    """Fraction of the image's pixels, 0..1; None: no figure beside the name."""
    colour: Colour | None
    """None: a line without a swatch."""


def render_overlay(
    image: NDArray[np.uint8], labels: LabelMap, colours: Sequence[Colour], legend: Sequence[LegendEntry]
) -> Image.Image:
    """Lay the classes' colours over an image and put a legend beside it, or below where the image is wide.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) class index at every pixel; an index without a colour (no class) leaves the image grey.
        colours: K colours.
        legend: The classes to list, the largest first; those that do not fit are counted in a last line.

    Returns:
        An RGB picture. Its image part keeps the aspect of `image`, with its longer side between 800 and 4096 pixels.
    """
    width, height = size = fitted_size(image, SMALLEST, LARGEST)
    picture = coloured_image(image, labels, colours, size)
    font_size = max(18, round(max(size) / 52))
    if width >= WIDE * height:
        return stacked([picture, legend_below(legend, width, font_size)])
    panel = legend_beside(legend, height, font_size)
    canvas = Image.new("RGB", (width + panel.width, height))
    canvas.paste(picture, (0, 0))
    canvas.paste(panel, (width, 0))
    return canvas


def fitted_size(image: NDArray[np.uint8], smallest: int, largest: int) -> tuple[int, int]:
    """Width and height of an image (H, W, 3) with its longer side brought between `smallest` and `largest` pixels."""
    height, width = image.shape[:2]
    scale = min(max(width, height, smallest), largest) / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """RGB pictures of one width below each other."""
    *tops, height = accumulate((part.height for part in parts), initial=0)
    whole = Image.new("RGB", (parts[0].width, height))
    for part, top in zip(parts, tops, strict=True):
        whole.paste(part, (0, top))
    return whole


def coloured_image(
    image: NDArray[np.uint8], labels: LabelMap, colours: Sequence[Colour], size: tuple[int, int]
) -> Image.Image:
    """Lay the classes' colours over an image, with white lines between classes and without a legend.

    Takes an image (H, W, 3) uint8 RGB, the class index (H, W) at every pixel (one without a colour leaves the image
    grey), K colours, and the width and height of the RGB picture in pixels.
    """
    shown = _nearest(labels, size)
    photo = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3)
    table = np.zeros((len(colours) + 1, 3), np.uint8)
    table[:-1] = np.asarray(colours, np.uint8).reshape(-1, 3)
    paint = Image.fromarray(table[np.minimum(shown, len(colours))])
    grey = photo.convert("L").convert("RGB")
    # Half of the photo's own colour is taken out, so that hues mean classes.
    muted = Image.blend(photo, grey, 0.5).point(lambda level: DARKEST + level * (BRIGHTEST - DARKEST) / 255)
    picture = Image.composite(grey, Image.blend(muted, paint, STRENGTH), Image.fromarray(shown >= len(colours)))
    picture.paste((255, 255, 255), mask=_borders(shown, thickness=max(size) / 1000))
    return picture


def value_picture(values: NDArray[np.float32], low: float, high: float) -> Image.Image:
    """Values (h, w) from `low` to `high` on the colour scale `SEQUENTIAL`: an RGB picture with a pixel each."""
    table = np.array([sequential_colour(value / 255) for value in range(256)], dtype=np.uint8)
    places = np.rint(255 * (values.clip(low, high) - low) / max(high - low, 1e-6)).astype(np.uint8)
    return Image.fromarray(table[places])


def _nearest(labels: LabelMap, size: tuple[int, int]) -> NDArray[np.int64]:
    height, width = labels.shape
    rows = (np.arange(size[1]) * 2 + 1) * height // (2 * size[1])
    columns = (np.arange(size[0]) * 2 + 1) * width // (2 * size[0])
    return labels[rows[:, None], columns].astype(np.int64)


def _borders(labels: NDArray[np.int64], thickness: float) -> Image.Image:
    """Mask of the lines between classes, about `thickness` pixels wide and soft at the edges."""
    edges = np.zeros(labels.shape, bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    mask = Image.fromarray(edges.astype(np.uint8) * 215)
    if thickness >= 2:
        mask = mask.filter(ImageFilter.MaxFilter(2 * round(thickness / 2) + 1))
    return mask.filter(ImageFilter.GaussianBlur(thickness / 4)) if thickness > 1 else mask


class _Style:
    """Sizes of a legend in pixels; all follow from the font's."""

    def __init__(self, font_size: int, entries: Sequence[LegendEntry]) -> None:
        self.font = font_for((entry.name for entry in entries), font_size)
        self.line = round(font_size * 1.25)
        self.swatch = round(font_size * 1.1)
        self.gap = round(font_size * 0.6)
        self.margin = round(font_size * 1.2)
        self.row_gap = round(font_size * 0.45)
        self.name_width = font_size * LONGEST_NAME
        shares = any(entry.share is not None for entry in entries)
        self.share_width = max(self.width("100.0 %"), self.width("< 0.1 %")) + 2 * self.gap if shares else 0

    def width(self, text: str) -> int:
        return round(self.font.getlength(text))

    def row_width(self, text_width: int) -> int:
        return self.swatch + self.gap + text_width + self.share_width


def legend_beside(entries: Sequence[LegendEntry], height: int, font_size: int) -> Image.Image:
    """Draw the legend as one column, an RGB panel of a height in pixels and as wide as its names need.

    Entries that do not fit, the last ones, are counted in a last line.
    """
    style = _Style(font_size, entries)
    names = [wrapped(entry.name, style.name_width, style.font, lines=2) for entry in entries]
    tops = list(accumulate((len(lines) * style.line + style.row_gap for lines in names), initial=0))
    space = height - 2 * style.margin
    if entries and tops[-1] > space:
        # The line that counts the rest needs a place too.
        shown = max(0, bisect_right(tops, space - style.line) - 1)
        entries = _with_rest(entries, shown)
        names[shown:] = [[entries[-1].name]]
    text_width = max((style.width(line) for lines in names for line in lines), default=0)
    panel = Image.new("RGB", (2 * style.margin + style.row_width(text_width), height), PAPER)
    for entry, lines, top in zip(entries, names, tops, strict=False):
        _draw_row(panel, style, (style.margin, style.margin + top), entry, lines, text_width=text_width)
    return panel


def legend_below(
    entries: Sequence[LegendEntry], width: int, font_size: int, *, most_rows: int = MOST_ROWS_BELOW
) -> Image.Image:
    """Draw the legend as a grid of a given width and at most so many rows; else as `legend_beside`."""
    style = _Style(font_size, entries)
    available = width - 2 * style.margin
    widest = max((style.width(entry.name) for entry in entries), default=0)
    text_width = max(min(widest, style.name_width, available - style.row_width(0)), style.width("+ 100 more"))
    column_width = style.row_width(text_width) + 2 * style.gap
    columns = max(1, (available + 2 * style.gap) // column_width)
    places = columns * most_rows
    if len(entries) > places:
        entries = _with_rest(entries, places - 1)
    rows = -(-len(entries) // columns)
    row_height = style.line + style.row_gap
    panel = Image.new("RGB", (width, 2 * style.margin + rows * row_height - style.row_gap), PAPER)
    for index, entry in enumerate(entries):
        corner = (style.margin + index // rows * column_width, style.margin + index % rows * row_height)
        lines = wrapped(entry.name, text_width, style.font, lines=1)
        _draw_row(panel, style, corner, entry, lines, text_width=text_width)
    return panel


def _with_rest(entries: Sequence[LegendEntry], shown: int) -> list[LegendEntry]:
    """The first entries, and one that counts the others and sums their shares."""
    rest = entries[shown:]
    shares = [entry.share for entry in rest if entry.share is not None]
    return [*entries[:shown], LegendEntry(f"+ {len(rest)} more", sum(shares) if shares else None, None)]


def _draw_row(
    panel: Image.Image, style: _Style, corner: tuple[int, int], entry: LegendEntry, lines: list[str], *, text_width: int
) -> None:
    left, top = corner
    draw = ImageDraw.Draw(panel)
    middle = top + style.line // 2
    if entry.colour is not None:
        # Pillow draws without antialiasing, so the swatch is drawn larger and shrunk.
        side = 4 * style.swatch
        mask = Image.new("L", (side, side))
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, side - 1, side - 1), style.swatch, fill=255)
        mask = mask.resize((style.swatch, style.swatch), Image.Resampling.LANCZOS)
        panel.paste(entry.colour, (left, middle - style.swatch // 2), mask)
    for number, line in enumerate(lines):
        place = (left + style.swatch + style.gap, middle + number * style.line)
        draw.text(place, line, PALE_INK if entry.colour is None else INK, style.font, anchor="lm")
    if entry.share is not None:
        place = (left + style.row_width(text_width), middle)
        draw.text(place, percent(entry.share), PALE_INK, style.font, anchor="rm")


def wrapped(text: str, width: int, font: Font, *, lines: int) -> list[str]:
    """Break a text into at most `lines` lines of at most `width` pixels; what does not fit ends in an ellipsis."""
    broken: list[str] = []
    while (fitting := _fitting(text, width, font)) < len(text):
        if len(broken) == lines - 1:
            return [*broken, text[: _fitting(text, width, font, tail="…")].rstrip() + "…"]
        space = text.rfind(" ", 1, fitting + 1)
        cut = space if space > 0 else fitting
        broken.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*broken, text] if text or not broken else broken


def _fitting(text: str, width: int, font: Font, tail: str = "") -> int:
    """How many characters of a text, at least one, fit a width together with a tail."""
    length = len(text)
    while length > 1 and font.getlength(text[:length] + tail) > width:
        length -= 1
    return length


def percent(share: float, digits: int = 1) -> str:
    """A share as readers expect it: "34.2 %", and "< 0.1 %" for what is there but rounds to nothing."""
    least = 10.0**-digits
    return f"< {least:g} %" if 0 < 100 * share < least / 2 else f"{100 * share:.{digits}f} %"


def legend_of(
    classes: Sequence[str], colours: Sequence[Colour], pixels: NDArray[np.int64], unseen: Collection[str] = ()
) -> list[LegendEntry]:
    """Entries of the classes that have pixels (K,), the largest first; unseen ones are marked with a star."""
    return [
        LegendEntry(f"{classes[index]} *" if classes[index] in unseen else classes[index], None, colours[index])
        for index in np.argsort(-pixels, kind="stable").tolist()
        if pixels[index]
    ]


def comparison_sheet(
    headings: Sequence[str],
    rows: Sequence[Sequence[Image.Image]],
    captions: Sequence[Sequence[str]] = (),
    *,
    legends: Sequence[Sequence[LegendEntry]] = (),
) -> Image.Image:
    """Lay pictures out in a grid under headings; an RGB picture whose text grows with its width.

    Args:
        headings: One a column; no line where all are empty.
        rows: Pictures of any size, as many as headings in each row; each is brought to one height, or one width where
            it is more than twice as wide as high.
        captions: Texts below each row, evenly spaced, each in at most two lines and shortened to them. Empty: no lines.
        legends: Drawn below each other under the grid, with all their entries.
    """
    cells = [[_at_height(picture) for picture in row] for row in rows]
    widths = [max(cell.width for cell in column) for column in zip(*cells, strict=True)]
    size = max(SMALLEST_FONT, sum(widths) // FONTS_A_WIDTH)
    font, line = font_for(chain(headings, *captions), size), round(1.5 * size)
    widths = [max(round(font.getlength(text)), width) for text, width in zip(headings, widths, strict=True)]
    width = sum(widths) + MARGIN * (len(widths) + 1)
    broken = [[wrapped(text, width // len(texts) - 2 * MARGIN, font, lines=2) for text in texts] for texts in captions]
    heights = [CELL_HEIGHT + MARGIN + line * max(map(len, texts), default=0) for texts in broken or [[]] * len(cells)]
    *tops, height = accumulate(heights, initial=MARGIN + (line if any(headings) else 0))
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [MARGIN * (column + 1) + sum(widths[:column]) for column in range(len(widths))]
    for left, heading in zip(lefts, headings, strict=True):
        draw.text((left, MARGIN // 2), heading, fill=INK, font=font)
    for top, row in zip(tops, cells, strict=True):
        for left, cell in zip(lefts, row, strict=True):
            sheet.paste(cell, (left, top))
    for top, texts in zip(tops, broken, strict=False):
        for left, lines in zip(lefts[:: len(widths) // len(texts)], texts, strict=False):
            for number, text in enumerate(lines):
                place = (left, top + CELL_HEIGHT + MARGIN // 4 + number * line)
                draw.text(place, text, fill=PALE_INK, font=font)
    return stacked([sheet, *(legend_below(each, width, size, most_rows=len(each) or 1) for each in legends)])


def _at_height(picture: Image.Image) -> Image.Image:
    scale = min(CELL_HEIGHT / picture.height, 2 * CELL_HEIGHT / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
