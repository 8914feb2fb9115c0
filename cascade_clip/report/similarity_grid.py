"""Patch similarity as a picture: the image with the point, then a map for every block, one row a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cascade_clip.analysis.similarity import PatchSimilarity, Point
from cascade_clip.report.figures import HIGHLIGHT, hex_colour, png_bytes
from cascade_clip.report.picture_grid import add_scale, name_row, picture_grid, show_picture, show_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLOCKS_OF_A_ROW = 6
"""More blocks go on in further rows, so that the picture stays legible on a page."""


def render_similarity_grid(
    image: NDArray[np.uint8], point: Point, similarities: Sequence[PatchSimilarity], *, note: str = ""
) -> bytes:
    """Draw the similarity maps of several models under each other, all on one colour scale.

    Args:
        image: (H, W, 3) uint8 RGB.
        point: The pixel (x, y) whose patch is compared; marked on every map.
        similarities: One a model, at least one.
        note: What the point is, for example its class; stands above the image.

    Returns:
        A PNG.
    """
    height, width = image.shape[:2]
    deepest = max(len(model.cosine) for model in similarities)
    starts = range(0, deepest, BLOCKS_OF_A_ROW)
    # The same depth of all models stands together: that is what one wants to compare.
    chunks = [(model, start) for start in starts for model in similarities if start < len(model.cosine)]
    limits = (float(min(model.cosine.min() for model in similarities)), 1.0)
    with picture_grid(len(chunks), 1 + min(deepest, BLOCKS_OF_A_ROW), width / height) as (figure, cells):
        for row, (model, start) in zip(cells, chunks, strict=True):
            show_picture(row[0], image, note or "image")
            _mark(row[0], point)
            name_row(row[0], "/".join(PurePath(model.model).parts[-2:]), width / height)
            values = model.cosine[start : start + BLOCKS_OF_A_ROW]
            for number, (axes, cosine) in enumerate(zip(row[1:], values, strict=False), start=start + 1):
                shown = show_values(axes, cosine, f"block {number}", (height, width), limits)
                _mark(axes, point)
            for axes in row[1 + len(values) :]:
                axes.set_axis_off()
        add_scale(figure, shown, "cosine similarity")
        return png_bytes(figure)


def _mark(axes: Axes, point: Point) -> None:
    """A ring that shows on dark, on light and on coloured ground."""
    for width, colour in ((2.6, "#ffffff"), (1.3, hex_colour(HIGHLIGHT))):
        axes.plot(*point, "o", markersize=6, markerfacecolor="none", markeredgewidth=width, markeredgecolor=colour)
