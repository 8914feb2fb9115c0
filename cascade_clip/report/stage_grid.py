"""Masks of every stage as a picture: one row a class, the image first, then the stages and their sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cascade_clip.analysis.stage_masks import StageMasks
from cascade_clip.data.resize import resize_nearest
from cascade_clip.report.figures import hex_colour, png_bytes
from cascade_clip.report.legend import percent
from cascade_clip.report.palette import Colour
from cascade_clip.report.picture_grid import add_scale, name_row, picture_grid, show_picture, show_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_OUTLINE = 512
"""Longer side of the grid on which outlines are found: true to a small image's pixels, quick on a large image."""


@dataclass(frozen=True, eq=False)
class ExplainedClass:
    """A class of the grid.

    Attributes:
        name: What it is called.
        colour: Colour of its outline.
        predicted: (H, W) bool, the pixels that the model gives it.
    """

    name: str
    colour: Colour
    predicted: NDArray[np.bool_]


def render_stage_grid(image: NDArray[np.uint8], classes: Sequence[ExplainedClass], masks: StageMasks) -> bytes:
    """Draw what each stage sees of each class, all on one scale from 0 to 1.

    A single decoder is its own sum, which is then left out.

    Args:
        image: (H, W, 3) uint8 RGB; the predicted pixels are outlined in it.
        classes: The K classes of `masks`.
        masks: Masks of the stages.

    Returns:
        A PNG.
    """
    height, width = image.shape[:2]
    headings = [*masks.decoders, "sum of stages"] if len(masks.decoders) > 1 else list(masks.decoders)
    with picture_grid(len(classes), 1 + len(headings), width / height) as (figure, cells):
        for row, explained, stages, total in zip(cells, classes, masks.masks, masks.total, strict=True):
            show_picture(row[0], image, f"predicted: {percent(float(explained.predicted.mean()))}")
            _outline(row[0], explained)
            name_row(row[0], explained.name, width / height)
            for axes, values, heading in zip(row[1:], [*stages, total], headings, strict=False):
                shown = show_values(axes, values, heading, (height, width), (0.0, 1.0))
        add_scale(figure, shown, "mask (sigmoid of the logits)")
        return png_bytes(figure)


def _outline(axes: Axes, explained: ExplainedClass) -> None:
    """Draw the border of the predicted pixels, in the class's colour between white lines."""
    mask = explained.predicted
    height, width = mask.shape
    scale = LONGEST_OUTLINE / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    small = np.pad(resize_nearest(mask.astype(np.uint8), rows, columns), 1)
    if not small.any():
        return
    # The frame of zeros closes outlines at the image's border.
    x = (np.arange(-1, columns + 1) + 0.5) * width / columns - 0.5
    y = (np.arange(-1, rows + 1) + 0.5) * height / rows - 0.5
    for line, colour in ((2.6, "#ffffff"), (1.3, hex_colour(explained.colour))):
        axes.contour(x, y, small, levels=[0.5], colors=colour, linewidths=line)
