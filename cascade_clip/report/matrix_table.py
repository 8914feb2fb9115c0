"""A matrix as a table that people read by colour and by value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade_clip.report.figures import SEQUENTIAL, hex_colour
from cascade_clip.report.page import MISSING
from cascade_clip.report.palette import INK, PAPER

MOST_COLUMNS_WITH_TEXT = 14
"""Wider matrices have cells too small for text; it is then only shown on hover and focus, and read aloud."""
SCALE_STEPS = 11
LETTER_WIDTH, WIDEST_NAME = 7, 148
"""Of names of rows, in pixels; longer ones are cut off and shown whole on hover."""


@dataclass(frozen=True)
class MatrixCell:
    """One cell.

    Attributes:
        text: Its value as people read it.
        detail: What is added on hover and focus.
        colour: CSS colour of the cell; empty where there is no value.
        ink: CSS colour that is legible on it.
        marked: Whether a dot marks it.
    """

    text: str
    detail: str
    colour: str
    ink: str
    marked: bool


@dataclass(frozen=True)
class MatrixTable:
    """A matrix with the names of its rows and columns.

    Attributes:
        rows: Names of the R rows.
        columns: Names of the C columns.
        cells: R rows of C cells.
        framed_row: The row with a frame.
        scale: Colours from the lowest value to the highest.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[MatrixCell, ...], ...]
    framed_row: int | None
    scale: tuple[str, ...]

    @property
    def shows_text(self) -> bool:
        """Whether the cells are wide enough for their values."""
        return len(self.columns) <= MOST_COLUMNS_WITH_TEXT

    @property
    def name_width(self) -> int:
        """Room for the names of the rows, in pixels."""
        return min(WIDEST_NAME, LETTER_WIDTH * max(map(len, self.rows), default=0) + 14)


def matrix_table(
    values: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    texts: Sequence[Sequence[str]],
    details: Sequence[Sequence[str]] | None = None,
    marked: NDArray[np.bool_] | None = None,
    framed_row: int | None = None,
) -> MatrixTable:
    """Colour a matrix with the one scale of every figure.

    Args:
        values: (R, C) between 0 and 1; what lies outside takes the colour of the end, NaN none.
        rows: R names.
        columns: C names.
        texts: The values as people read them.
        details: What is added on hover and focus.
        marked: (R, C), cells with a dot.
        framed_row: The row with a frame.
    """
    dots = np.zeros(values.shape, dtype=bool) if marked is None else marked
    cells = tuple(
        tuple(
            _cell(float(value), texts[i][j], details[i][j] if details else "", marked=bool(dots[i, j]))
            for j, value in enumerate(row)
        )
        for i, row in enumerate(values)
    )
    scale = tuple(_css_colour(step)[0] for step in np.linspace(0, 1, SCALE_STEPS))
    return MatrixTable(tuple(rows), tuple(columns), cells, framed_row, scale)


def _cell(value: float, text: str, detail: str, *, marked: bool) -> MatrixCell:
    if math.isnan(value):
        return MatrixCell(MISSING, detail, "", "", marked)
    colour, ink = _css_colour(min(max(value, 0.0), 1.0))
    return MatrixCell(text, detail, colour, ink, marked)


def _css_colour(value: float) -> tuple[str, str]:
    """Colour of a value in 0..1, and the ink that is legible on it."""
    import matplotlib as mpl

    red, green, blue, _ = (round(255 * level) for level in mpl.colormaps[SEQUENTIAL](float(value)))
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 118
    return hex_colour((red, green, blue)), hex_colour(INK if bright else PAPER)
