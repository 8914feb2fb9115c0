"""Grids of maps over one image: patch similarities by block, and masks by stage."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.analysis.similarity import PatchSimilarity, Point
from cascade_clip.analysis.stage_masks import StageMasks
from cascade_clip.data.resize import resize_nearest
from cascade_clip.drawing.overlay import percent
from cascade_clip.drawing.palette import HIGHLIGHT, INK, PALE_INK, PAPER, Colour, hex_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLOCKS_OF_A_ROW = 6
"""More blocks go on in further rows, so that the picture stays legible on a page."""
LONGEST_OUTLINE = 512
"""Longer side of the grid on which outlines are found: true to a small image's pixels, quick on a large image."""
# Sizes in inches.
CELL = 1.55
"""Longer side of a picture."""
SMALLEST_CELL = 0.95
"""No side is below it, so that headings and names have a place: around a narrow picture paper is left."""
HEADING = 0.24
NAMES, NAME_LINES = 0.56, 3
"""Room for the rows' names, and how many lines they take at most."""
LETTER = 0.078
"""Width of a letter of a row's name, on average."""
MARGIN, GAP = 0.1, 0.08
RESOLUTION = 160
"""Pixels an inch."""
SCALE, SCALE_LABELS = 0.16, 0.65
"""Width of the colour scale and of its labels."""
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlelocation": "left",
    "axes.labelcolor": hex_colour(INK),
    "axes.facecolor": hex_colour(PAPER),
    "figure.facecolor": hex_colour(PAPER),
    "text.color": hex_colour(INK),
    "ytick.color": hex_colour(PALE_INK),
    "ytick.labelcolor": hex_colour(INK),
    "image.cmap": "cividis",
    "image.interpolation": "nearest",
    # Class names come from users: a dollar sign in them is no formula.
    "text.parse_math": False,
}


@dataclass(frozen=True, eq=False)
class ExplainedClass:
    """A class of the grid of stages.

    Attributes:
        name: What it is called.
        colour: Colour of its outline.
        predicted: (H, W) bool, the pixels that the model gives it.
    """

    name: str
    colour: Colour
    predicted: NDArray[np.bool_]


def render_similarity_grid(
    image: NDArray[np.uint8], point: Point, similarities: Sequence[PatchSimilarity], *, note: str = ""
) -> bytes:
    """Draw the similarity maps of several models below each other, all on one colour scale.

    Args:
        image: (H, W, 3) uint8 RGB.
        point: The pixel (x, y) whose patch is compared; marked on every map.
        similarities: One a model, at least one.
        note: What the point is, for example its class; stands above the image.

    Returns:
        A PNG.
    """
    deepest = max(len(model.cosine) for model in similarities)
    starts = range(0, deepest, BLOCKS_OF_A_ROW)
    # The same depth of all models stands together: that is what one wants to compare.
    chunks = [(model, start) for start in starts for model in similarities if start < len(model.cosine)]
    limits = (float(min(model.cosine.min() for model in similarities)), 1.0)
    with _map_grid(image, len(chunks), min(deepest, BLOCKS_OF_A_ROW), limits) as grid:
        for row, (model, start) in enumerate(chunks):
            grid.show_image(row, "/".join(PurePath(model.model).parts[-2:]), note or "image")
            maps = list(model.cosine[start : start + BLOCKS_OF_A_ROW])
            grid.show_maps(row, maps, [f"block {start + number}" for number in range(1, len(maps) + 1)])
            for axes in grid.cells[row][: 1 + len(maps)]:
                for width, colour in _visible_line(HIGHLIGHT):
                    axes.plot(*point, "o", markersize=6, mfc="none", mew=width, mec=colour)
        return grid.png("cosine similarity")


def render_stage_grid(image: NDArray[np.uint8], classes: Sequence[ExplainedClass], masks: StageMasks) -> bytes:
    """Draw what each stage sees of each class, one row a class, all on one scale from 0 to 1.

    Args:
        image: (H, W, 3) uint8 RGB; the predicted pixels are outlined in it.
        classes: The K classes of `masks`.
        masks: Masks of the stages. A single decoder is its own sum, which is then left out.

    Returns:
        A PNG.
    """
    headings = [*masks.decoders, "sum of stages"] if len(masks.decoders) > 1 else list(masks.decoders)
    with _map_grid(image, len(classes), len(headings), (0.0, 1.0)) as grid:
        for row, (explained, stages, total) in enumerate(zip(classes, masks.masks, masks.total, strict=True)):
            grid.show_image(row, explained.name, f"predicted: {percent(float(explained.predicted.mean()))}")
            _outline(grid.cells[row][0], explained)
            grid.show_maps(row, [*stages, total][: len(headings)], headings)
        return grid.png("mask (sigmoid of the logits)")


def _outline(axes: Axes, explained: ExplainedClass) -> None:
    """Draw the border of the predicted pixels, in the class's colour between white lines."""
    mask = explained.predicted
    height, width = mask.shape
    scale = LONGEST_OUTLINE / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    # The frame of zeros closes outlines at the image's border.
    small = np.pad(resize_nearest(mask.astype(np.uint8), rows, columns), 1)
    if small.any():
        x = (np.arange(-1, columns + 1) + 0.5) * width / columns - 0.5
        y = (np.arange(-1, rows + 1) + 0.5) * height / rows - 0.5
        for line, colour in _visible_line(explained.colour):
            axes.contour(x, y, small, levels=[0.5], colors=colour, linewidths=line)


def _visible_line(colour: Colour) -> tuple[tuple[float, str], ...]:
    """Widths and colours of a line and its white edge, which show on dark, on light and on coloured ground."""
    return (2.6, "#ffffff"), (1.3, hex_colour(colour))


@dataclass(frozen=True)
class _MapGrid:
    """Axes in rows, the first of each row for the image; their coordinates are the image's pixels."""

    figure: Figure
    cells: list[list[Axes]]
    image: NDArray[np.uint8]
    limits: tuple[float, float]

    def show_image(self, row: int, name: str, heading: str) -> None:
        """Draw the image, shrunk to what a reader can see, with the row's name beside it and a heading above."""
        height, width = self.image.shape[:2]
        small = Image.fromarray(self.image)
        small.thumbnail((round(4 * CELL * RESOLUTION),) * 2)
        axes = self.cells[row][0]
        self._show(axes, np.asarray(small), heading, interpolation="antialiased")
        letters = int(_cell_size(width / height)[1] / LETTER)
        lines = textwrap.wrap(" ".join(name.split()), letters, max_lines=NAME_LINES, placeholder=" …") or [""]
        axes.set_ylabel("\n".join(lines), fontweight="bold", fontsize=8, labelpad=5)

    def show_maps(self, row: int, maps: Sequence[NDArray[np.float32]], headings: Sequence[str]) -> None:
        """Draw maps (h, w), whose cells share the image's area evenly, under their headings; other axes stay empty."""
        places, (low, high) = self.cells[row][1:], self.limits
        for axes, values, heading in zip(places, maps, headings, strict=False):
            self._show(axes, values, heading, vmin=low, vmax=high)
        for axes in places[len(headings) :]:
            axes.set_axis_off()

    def png(self, label: str) -> bytes:
        """Put the one colour scale of all maps at the right and draw; equal figures give equal bytes."""
        width, height = self.figure.get_size_inches()
        left, tall = width - MARGIN - SCALE_LABELS - SCALE, height - 2 * MARGIN - HEADING
        place = self.figure.add_axes((left / width, MARGIN / height, SCALE / width, tall / height))
        scale = self.figure.colorbar(self.cells[0][1].images[0], cax=place, label=label)
        scale.outline.set_visible(False)
        place.tick_params(labelsize=8)
        drawn = io.BytesIO()
        self.figure.savefig(drawn, format="png", dpi=RESOLUTION, metadata={"Software": None})
        return drawn.getvalue()

    def _show(self, axes: Axes, shown: NDArray[np.uint8] | NDArray[np.float32], heading: str, **options: Any) -> None:
        height, width = self.image.shape[:2]
        axes.imshow(shown, extent=(-0.5, width - 0.5, height - 0.5, -0.5), **options)
        axes.set_title(heading, fontsize=8, fontweight="normal", pad=3)
        # Paper at both sides of a narrow picture: in a box as narrow as it headings would run into each other.
        paper, middle = max(width, height * SMALLEST_CELL / CELL), (width - 1) / 2
        axes.set(xlim=(middle - paper / 2, middle + paper / 2), ylim=(height - 0.5, -0.5))


@contextmanager
def _map_grid(image: NDArray[np.uint8], rows: int, maps: int, limits: tuple[float, float]) -> Iterator[_MapGrid]:
    """Open a figure of rows of an image and at most `maps` maps each; `limits` are the ends of the colour scale."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    cell_width, cell_height = _cell_size(image.shape[1] / image.shape[0])
    left, right = NAMES, NAMES + (1 + maps) * (cell_width + GAP)
    width, height = right + SCALE + SCALE_LABELS + MARGIN, 2 * MARGIN + rows * (HEADING + cell_height + GAP) - GAP
    with mpl.rc_context(STYLE):
        # All sizes are known: a layout engine that arranges dozens of axes by their contents would take seconds.
        figure = Figure(figsize=(width, height))
        places = {"left": left / width, "right": (right - GAP) / width}
        places |= {"bottom": MARGIN / height, "top": 1 - (MARGIN + HEADING) / height}
        places |= {"wspace": GAP / cell_width, "hspace": (HEADING + GAP) / cell_height}
        cells = [list(row) for row in figure.subplots(rows, 1 + maps, squeeze=False, gridspec_kw=places)]
        for axes in figure.axes:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        yield _MapGrid(figure, cells, image, limits)


def _cell_size(aspect: float) -> tuple[float, float]:
    """Width and height in inches of a cell for pictures of an aspect (width over height)."""
    return max(SMALLEST_CELL, CELL * min(1.0, aspect)), max(SMALLEST_CELL, CELL / max(1.0, aspect))
