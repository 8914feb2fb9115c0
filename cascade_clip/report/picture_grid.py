"""Pictures in rows and columns of one figure: what the grids of similarity maps and of stages share."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.report.figures import RESOLUTION, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

CELL = 1.55
"""Longer side of a picture in inches."""
SMALLEST_CELL = 0.95
"""No side is below it, so that headings and names have a place: around a narrow picture paper is left."""
HEADING = 0.24
NAME_LINES = 3
LETTER = 0.078
"""Width of a letter of a row's name in inches, on average."""
MARGIN, GAP = 0.1, 0.08
NAMES = 0.56
"""Room for the rows' names in inches."""
SCALE, SCALE_LABELS = 0.16, 0.65
"""Width of the colour scale and of its labels in inches."""


@contextmanager
def picture_grid(rows: int, columns: int, aspect: float) -> Iterator[tuple[Figure, list[list[Axes]]]]:
    """Open a figure of pictures without ticks; what is drawn inside the block has the style of the house.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        aspect: Width over height of the pictures.

    Yields:
        The figure, and its axes row by row; room for one colour scale at the right is left.
    """
    cell_width, cell_height = _cell_size(aspect)
    left, right = NAMES, NAMES + columns * (cell_width + GAP)
    width, height = right + SCALE + SCALE_LABELS + MARGIN, 2 * MARGIN + rows * (HEADING + cell_height + GAP) - GAP
    with new_figure(width, height) as figure:
        # All sizes are known: arranging dozens of axes by their contents would take seconds.
        figure.set_layout_engine("none")
        places = {
            "left": left / width,
            "right": (right - GAP) / width,
            "bottom": MARGIN / height,
            "top": 1 - (MARGIN + HEADING) / height,
            "wspace": GAP / cell_width,
            "hspace": (HEADING + GAP) / cell_height,
        }
        grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=places)
        cells: list[list[Axes]] = [list(row) for row in grid]
        for axes in (axes for row in cells for axes in row):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        yield figure, cells


def show_picture(axes: Axes, picture: NDArray[np.uint8], heading: str) -> None:
    """Draw an image (H, W, 3) uint8 under a heading; large ones are shrunk to what a reader can see."""
    small = Image.fromarray(picture)
    small.thumbnail((round(4 * CELL * RESOLUTION),) * 2)
    axes.imshow(np.asarray(small), extent=_extent(picture.shape[1], picture.shape[0]), interpolation="antialiased")
    _finish(axes, heading, (picture.shape[0], picture.shape[1]))


def show_values(
    axes: Axes, values: NDArray[np.float32], heading: str, size: tuple[int, int], limits: tuple[float, float]
) -> AxesImage:
    """Draw values (h, w) over the area of an image under a heading.

    Args:
        axes: Where to draw.
        values: Cells of any number; they share the area evenly.
        heading: Text above.
        size: Height and width of the image in pixels: the axes' coordinates are its pixels.
        limits: Values of the darkest and the brightest colour.
    """
    shown = axes.imshow(values, extent=_extent(size[1], size[0]), vmin=limits[0], vmax=limits[1])
    _finish(axes, heading, size)
    return shown


def name_row(axes: Axes, name: str, aspect: float) -> None:
    """Write a row's name beside its first picture, whose aspect is given; a long one takes three lines at most."""
    letters = int(_cell_size(aspect)[1] / LETTER)
    lines = textwrap.wrap(" ".join(name.split()), letters, max_lines=NAME_LINES, placeholder=" …") or [""]
    axes.set_ylabel("\n".join(lines), fontweight="bold", fontsize=8, labelpad=5)


def add_scale(figure: Figure, shown: AxesImage, label: str) -> None:
    """Put the one colour scale of all pictures at the right."""
    width, height = figure.get_size_inches()
    left, tall = width - MARGIN - SCALE_LABELS - SCALE, height - 2 * MARGIN - HEADING
    place = figure.add_axes((left / width, MARGIN / height, SCALE / width, tall / height))
    scale = figure.colorbar(shown, cax=place, label=label)
    scale.outline.set_visible(False)
    place.tick_params(labelsize=8)


def _finish(axes: Axes, heading: str, size: tuple[int, int]) -> None:
    height, width = size
    axes.set_title(heading, fontsize=8, fontweight="normal", pad=3)
    # Paper at both sides of a narrow picture: in a box as narrow as it headings would run into each other.
    shown, middle = max(width, height * SMALLEST_CELL / CELL), (width - 1) / 2
    axes.set(xlim=(middle - shown / 2, middle + shown / 2), ylim=(height - 0.5, -0.5))


def _cell_size(aspect: float) -> tuple[float, float]:
    """Width and height of a cell in inches."""
    return max(SMALLEST_CELL, CELL * min(1.0, aspect)), max(SMALLEST_CELL, CELL / max(1.0, aspect))


def _extent(width: int, height: int) -> tuple[float, float, float, float]:
    return -0.5, width - 0.5, height - 0.5, -0.5
