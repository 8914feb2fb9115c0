"""A sheet that compares: one row an image, its overlays side by side."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from cascade_clip.report.legend import INK, PALE_INK, PAPER, wrapped

CELL_HEIGHT = 360
MARGIN = 16
HEADING = 30


def comparison_sheet(
    headings: Sequence[str], rows: Sequence[Sequence[Image.Image]], captions: Sequence[str] = ()
) -> Image.Image:
    """Lay pictures out in a grid under headings.

    Args:
        headings: One a column.
        rows: Pictures of any size, as many as headings in each row; each is brought to one height.
        captions: A line below each row, shortened to the width of the sheet; none: no lines.

    Returns:
        An RGB picture.
    """
    cells = [[_at_height(picture) for picture in row] for row in rows]
    font = ImageFont.load_default(HEADING * 2 // 3)
    widths = [
        max(round(font.getlength(heading)), *(row[column].width for row in cells))
        for column, heading in enumerate(headings)
    ]
    row_height = CELL_HEIGHT + MARGIN + (HEADING if captions else 0)
    size = (sum(widths) + MARGIN * (len(widths) + 1), HEADING + MARGIN + len(cells) * row_height)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    x = MARGIN
    for column, heading in enumerate(headings):
        draw.text((x, MARGIN // 2), heading, fill=INK, font=font)
        for number, row in enumerate(cells):
            sheet.paste(row[column], (x, HEADING + MARGIN + number * row_height))
        x += widths[column] + MARGIN
    for number, caption in enumerate(captions):
        line = wrapped(caption, sheet.width - 2 * MARGIN, font, lines=1)[0]
        top = HEADING + MARGIN + number * row_height + CELL_HEIGHT
        draw.text((MARGIN, top + MARGIN // 4), line, fill=PALE_INK, font=font)
    return sheet


def _at_height(picture: Image.Image) -> Image.Image:
    size = (max(1, round(picture.width * CELL_HEIGHT / picture.height)), CELL_HEIGHT)
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
