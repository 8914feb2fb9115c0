"""Pictures in a grid under headings, with one legend below."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cascade_clip.drawing.overlay import LegendEntry, legend_below, stacked, wrapped
from cascade_clip.drawing.palette import INK, PALE_INK, PAPER, Colour

SMALLEST_FONT, FONTS_A_WIDTH = 18, 55
"""Pixels of a sheet's text, and its height in a sheet's width: legible where a page shows the sheet 850 pixels wide."""
CELL_HEIGHT = 360
MARGIN = 16


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
        headings: One a column.
        rows: Pictures of any size, as many as headings in each row; each is brought to one height, or one width where
            it is more than twice as wide as high.
        captions: Texts in a line below each row, evenly spaced and shortened to their share of it. Empty: no lines.
        legends: Drawn below each other under the grid, with all their entries.
    """
    cells = [[_at_height(picture) for picture in row] for row in rows]
    widths = [max(cell.width for cell in column) for column in zip(*cells, strict=True)]
    size = max(SMALLEST_FONT, sum(widths) // FONTS_A_WIDTH)
    font, line = ImageFont.load_default(size), round(1.5 * size)
    widths = [max(round(font.getlength(text)), width) for text, width in zip(headings, widths, strict=True)]
    row_height = CELL_HEIGHT + MARGIN + (line if captions else 0)
    width = sum(widths) + MARGIN * (len(widths) + 1)
    sheet = Image.new("RGB", (width, line + MARGIN + len(cells) * row_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [MARGIN * (column + 1) + sum(widths[:column]) for column in range(len(widths))]
    tops = [line + MARGIN + number * row_height for number in range(len(cells))]
    for left, heading in zip(lefts, headings, strict=True):
        draw.text((left, MARGIN // 2), heading, fill=INK, font=font)
    for top, row in zip(tops, cells, strict=True):
        for left, cell in zip(lefts, row, strict=True):
            sheet.paste(cell, (left, top))
    for top, texts in zip(tops, captions, strict=False):
        columns_each = len(widths) // len(texts)
        for left, text in zip(lefts[::columns_each], texts, strict=False):
            shown = wrapped(text, width // len(texts) - 2 * MARGIN, font, lines=1)[0]
            draw.text((left, top + CELL_HEIGHT + MARGIN // 4), shown, fill=PALE_INK, font=font)
    return stacked([sheet, *(legend_below(each, width, size, most_rows=len(each) or 1) for each in legends)])


def _at_height(picture: Image.Image) -> Image.Image:
    scale = min(CELL_HEIGHT / picture.height, 2 * CELL_HEIGHT / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
