"""A sheet that compares: one row an image, its overlays side by side."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from cascade_clip.report.legend import INK, PAPER

CELL_HEIGHT = 360
MARGIN = 16
HEADING = 30


def comparison_sheet(headings: Sequence[str], rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Lay pictures out in a grid under headings.

    Args:
        headings: One a column.
        rows: Pictures of any size, as many as headings in each row; each is brought to one height.

    Returns:
        An RGB picture.
    """
    cells = [[_at_height(picture) for picture in row] for row in rows]
    widths = [max(row[column].width for row in cells) for column in range(len(headings))]
    sheet = Image.new(
        "RGB",
        (sum(widths) + MARGIN * (len(widths) + 1), HEADING + MARGIN + len(cells) * (CELL_HEIGHT + MARGIN)),
        PAPER,
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(HEADING * 2 // 3)
    x = MARGIN
    for column, heading in enumerate(headings):
        draw.text((x, MARGIN // 2), heading, fill=INK, font=font)
        for number, row in enumerate(cells):
            sheet.paste(row[column], (x, HEADING + MARGIN + number * (CELL_HEIGHT + MARGIN)))
        x += widths[column] + MARGIN
    return sheet


def _at_height(picture: Image.Image) -> Image.Image:
    size = (max(1, round(picture.width * CELL_HEIGHT / picture.height)), CELL_HEIGHT)
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
