"""Grids of maps over one image: patch similarities by block, and masks by stage."""

import io
from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

from cascade_clip.analysis.similarity import PatchSimilarity, Point
from cascade_clip.analysis.stage_masks import StageMasks
from cascade_clip.drawing.overlay import (
    CELL_HEIGHT,
    FONTS_A_WIDTH,
    MARGIN,
    SMALLEST_FONT,
    comparison_sheet,
    fitted_size,
    percent,
    stacked,
    value_picture,
)
from cascade_clip.drawing.palette import HIGHLIGHT, INK, PALE_INK, PAPER, Colour

BLOCKS_OF_A_ROW = 6
"""More blocks go on in further rows, so that the picture stays legible on a page."""
SIDE = 2 * CELL_HEIGHT
"""Longer side of a picture before it is shrunk to its cell, which softens lines, in pixels."""
LINES = ((13, (255, 255, 255)), (7, None))
"""Widths in pixels of a line's white edge and of the line itself, which show on dark, light and coloured ground."""


class ExplainedClass(NamedTuple):
    """A class of the grid of stages: its name, the colour of its outline and the pixels (H, W) predicted as it."""

    name: str
    colour: Colour
    predicted: NDArray[np.bool_]


def render_similarity_grid(
    image: NDArray[np.uint8], point: Point, similarities: Sequence[PatchSimilarity], *, note: str = ""
) -> bytes:
    """Draw the similarity maps of models, at least one, below each other, all on one colour scale, as PNG.

    On the image (H, W, 3) uint8 RGB and on every map the pixel (x, y) is marked whose patch is compared; `note` says
    what it is, for example its class.
    """
    size, low = fitted_size(image, SIDE, SIDE), float(min(model.cosine.min() for model in similarities))
    place = [(pixel + 0.5) * shown / whole for pixel, shown, whole in zip(point, size, image.shape[1::-1], strict=True)]
    photo = _marked(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3), place)
    rows, captions = [], []
    deepest = max(len(model.cosine) for model in similarities)
    # The same depth of all models stands together: that is what one wants to compare.
    for start in range(0, deepest, BLOCKS_OF_A_ROW):
        for model in (model for model in similarities if start < len(model.cosine)):
            maps = model.cosine[start : start + BLOCKS_OF_A_ROW]
            rows.append([photo, *(_marked(_map(values, low, size), place) for values in maps)])
            blocks = [f"block {start + number}" for number in range(1, len(maps) + 1)]
            captions.append([" / ".join(PurePath(model.model).parts[-2:]), *blocks])
    return _sheet(note, rows, captions, "cosine similarity", low)


def render_stage_grid(image: NDArray[np.uint8], classes: Sequence[ExplainedClass], masks: StageMasks) -> bytes:
    """Draw what each stage sees of each of K classes, one row a class, all on one scale from 0 to 1, as PNG.

    In the image (H, W, 3) uint8 RGB the predicted pixels are outlined. A single decoder is its own sum, which is left
    out.
    """
    size = fitted_size(image, SIDE, SIDE)
    headings = [*masks.decoders, "sum of stages"] if len(masks.decoders) > 1 else list(masks.decoders)
    rows, captions = [], []
    for explained, stages, total in zip(classes, masks.masks, masks.total, strict=True):
        photo = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3)
        _outline(photo, explained)
        rows.append([photo, *(_map(values, 0, size) for values in [*stages, total][: len(headings)])])
        captions.append([f"{percent(float(explained.predicted.mean()))} {explained.name}", *headings])
    return _sheet("", rows, captions, "mask (sigmoid of the logits)", 0)


def _sheet(note: str, rows: list[list[Image.Image]], captions: list[list[str]], scale: str, low: float) -> bytes:
    """The grid with the colours of values from `low` to 1 below; equal figures give equal bytes."""
    columns = max(map(len, rows))
    for row, texts in zip(rows, captions, strict=True):
        row.extend([Image.new("RGB", (1, 1), PAPER)] * (columns - len(row)))
        texts.extend([""] * (columns - len(texts)))
    drawn = io.BytesIO()
    grid = comparison_sheet([note, *[""] * (columns - 1)], rows, captions)
    stacked([grid, _colour_bar(grid.width, scale, low)]).save(drawn, "PNG")
    return drawn.getvalue()


def _colour_bar(width: int, scale: str, low: float) -> Image.Image:
    """A panel with all colours from `low` to 1 over half of its width, five of their values, and what they measure."""
    size, length = max(SMALLEST_FONT, width // FONTS_A_WIDTH), width // 2
    font, left = ImageFont.load_default(size), MARGIN + 2 * size
    panel = Image.new("RGB", (width, 4 * size), PAPER)
    panel.paste(_map(np.linspace(low, 1, 256, dtype=np.float32)[None], low, (length, size)), (left, size // 2))
    draw = ImageDraw.Draw(panel)
    for place in np.linspace(0, 1, 5).tolist():
        draw.text((left + place * length, 2 * size), f"{low + (1 - low) * place:.2f}", INK, font, anchor="ma")
    draw.text((left + length + size, size), scale, PALE_INK, font, anchor="lm")
    return panel


def _map(values: NDArray[np.float32], low: float, size: tuple[int, int]) -> Image.Image:
    return value_picture(values, low, 1.0).resize(size, Image.Resampling.NEAREST)


def _marked(picture: Image.Image, place: Sequence[float]) -> Image.Image:
    """Draw a ring around a place (x, y) of a picture."""
    draw = ImageDraw.Draw(picture)
    for width, colour in LINES:
        draw.circle(place, 20 + width / 2, outline=colour or HIGHLIGHT, width=width)
    return picture


def _outline(photo: Image.Image, explained: ExplainedClass) -> None:
    """Draw the border of the predicted pixels, in the class's colour between white lines."""
    # The frame of zeros closes outlines at the image's border.
    mask = ImageOps.expand(Image.fromarray(explained.predicted).convert("L").resize(photo.size), border=LINES[0][0])
    for width, colour in LINES:
        line = ImageChops.subtract(mask.filter(ImageFilter.MaxFilter(width)), mask.filter(ImageFilter.MinFilter(width)))
        photo.paste(colour or explained.colour, mask=ImageOps.crop(line, LINES[0][0]))
