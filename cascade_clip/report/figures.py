"""The colours and the style of every figure, readable with colour-blindness and in print."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade_clip.report.legend import INK, PALE_INK, PAPER
from cascade_clip.report.palette import FIRST_COLOURS, Colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEQUENTIAL: tuple[Colour, ...] = (
    (0, 34, 78),
    (26, 56, 111),
    (67, 78, 108),
    (97, 101, 111),
    (125, 124, 120),
    (155, 148, 118),
    (188, 174, 108),
    (222, 201, 88),
    (254, 232, 56),
)
"""Nine even steps of the colour map cividis (Nuñez, Anderton and Renslow, 2018), for values from low to high: made to
look alike to readers with and without red-green blindness."""
SEEN, UNSEEN, BOTH = FIRST_COLOURS[0], FIRST_COLOURS[5], FIRST_COLOURS[2]
"""Colours of figures of seen classes, of unseen classes, and of their harmonic mean, everywhere."""
RIGHT, WRONG, NOT_COUNTED = (86, 180, 233), (213, 94, 0), (190, 192, 196)
"""Colours of an error map: right pixels, wrong ones, and those that do not count."""
HIGHLIGHT = FIRST_COLOURS[5]
"""Colour of frames that mark something."""
RESOLUTION = 160
"""Pixels an inch."""


def sequential_colour(value: float) -> Colour:
    """Colour of a value in 0..1 on the scale `SEQUENTIAL`; what lies outside takes the colour of the end."""
    steps = np.linspace(0, 1, len(SEQUENTIAL))
    red, green, blue = (round(float(np.interp(value, steps, channel))) for channel in zip(*SEQUENTIAL, strict=True))
    return red, green, blue


def hex_colour(colour: Colour) -> str:
    """A colour as matplotlib and CSS take it: "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Open an empty figure in the style of the house; everything drawn inside the block has it.

    No display is needed and nothing global is changed.

    Args:
        width: In inches.
        height: In inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": hex_colour(PALE_INK),
        "axes.labelcolor": hex_colour(INK),
        "axes.facecolor": hex_colour(PAPER),
        "figure.facecolor": hex_colour(PAPER),
        "text.color": hex_colour(INK),
        "xtick.color": hex_colour(PALE_INK),
        "ytick.color": hex_colour(PALE_INK),
        "xtick.labelcolor": hex_colour(INK),
        "ytick.labelcolor": hex_colour(INK),
        "image.cmap": "cividis",
        "image.interpolation": "nearest",
        # Class names come from users: a dollar sign in them is no formula.
        "text.parse_math": False,
    }
    with mpl.rc_context(style):
        yield Figure(figsize=(width, height), layout="constrained")


def png_bytes(figure: Figure) -> bytes:
    """Draw a figure as PNG; equal figures give equal bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=RESOLUTION, metadata={"Software": None})
    return drawn.getvalue()
