"""Figure of a confusion matrix: the largest classes, and the pairs that cost most pixels by name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cascade_clip.evaluation.details import ConfusedPair, largest_classes
from cascade_clip.report.figures import HIGHLIGHT, SEQUENTIAL, hex_colour, new_figure, png_bytes, set_heading
from cascade_clip.report.overlay import percent
from cascade_clip.report.palette import PALE_INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLASSES_SHOWN = 24
"""With more classes, names and shares would no longer be legible."""
LONGEST_NAME = 22
PAIRS_NAMED = 10
CELL, NAMES, KEY, HEADING = 0.3, 1.9, 1.0, 0.5
"""Inches: side of a cell, space of class names, of the colour bar, of the heading."""
LETTER = 0.08
"""Inches that a letter of a named pair takes, wide ones too."""
LINE = 27
"""Points from one named pair to the next."""
WRITTEN = 0.005
"""Smaller shares are not written into their cells."""


def confusion_figure(
    confusion: NDArray[np.int64],
    classes: Sequence[str],
    pairs: Sequence[ConfusedPair],
    *,
    unseen: Collection[str] = (),
    title: str = "",
) -> bytes:
    """Draw what the pixels of each class are taken for.

    Rows are the classes with most labelled pixels, as shares of the row's pixels; what is taken for a class that is not
    shown stands in a last column, so that every row is whole.

    Args:
        confusion: (K, K) counts, row = true class, column = predicted class.
        classes: The K class names.
        pairs: The pairs to name, the worst first; those shown are framed in the matrix.
        unseen: Names of the unseen classes, which are marked with a star.
        title: What was measured.

    Returns:
        A PNG.
    """
    shown = largest_classes(confusion, CLASSES_SHOWN)
    names = [_label(classes[index], unseen) for index in shown]
    named = list(pairs[:PAIRS_NAMED])
    matrix_side = CELL * max(len(shown), 10)
    width = NAMES + matrix_side + KEY
    longest = max((len(_pair_name(pair, unseen)) for pair in named), default=0)
    pairs_width = max(2.2, 0.5 + LETTER * longest)
    with new_figure(width + pairs_width, NAMES + matrix_side + HEADING) as figure:
        set_heading(figure, title)
        matrix, text = figure.subplots(1, 2, width_ratios=[width, pairs_width])
        if shown:
            _draw_matrix(matrix, confusion, shown, names)
        else:
            matrix.set_axis_off()
            matrix.set_title("nothing is labelled")
        _frame(matrix, [classes[index] for index in shown], named)
        _name_pairs(text, named, unseen)
        return png_bytes(figure)


def _draw_matrix(axes: Axes, confusion: NDArray[np.int64], shown: tuple[int, ...], names: list[str]) -> None:
    rows = confusion[list(shown)]
    inside = rows[:, list(shown)]
    labelled = rows.sum(axis=1, keepdims=True)
    columns, shares = list(names), inside / labelled
    if len(shown) < confusion.shape[1]:
        columns.append("other classes")
        shares = np.hstack([shares, 1 - shares.sum(axis=1, keepdims=True)])
    image = axes.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for (row, column), share in np.ndenumerate(shares):
        if share >= WRITTEN:
            ink = "black" if share > 0.55 else "white"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=ink)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.5, pad=0.02, label="% of the true class's pixels")
    bar.set_ticks([0, 0.5, 1], labels=["0", "50", "100"])
    bar.outline.set_visible(False)


def _frame(axes: Axes, shown: list[str], pairs: list[ConfusedPair]) -> None:
    from matplotlib.patches import Rectangle

    places = {name: position for position, name in enumerate(shown)}
    for pair in pairs:
        if pair.true in places and pair.predicted in places:
            corner = (places[pair.predicted] - 0.5, places[pair.true] - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=hex_colour(HIGHLIGHT), linewidth=1.5))


def _name_pairs(axes: Axes, pairs: list[ConfusedPair], unseen: Collection[str]) -> None:
    axes.set_axis_off()
    axes.set_title("most pixels lost" if pairs else "nothing is confused")
    pale = hex_colour(PALE_INK)

    def write(line: str, left: int, below: int, **style: Any) -> None:
        axes.annotate(
            line, (0, 1), xycoords="axes fraction", xytext=(left, -below), textcoords="offset points", **style
        )

    for number, pair in enumerate(pairs, start=1):
        top = LINE * number
        write(f"{number}.", 14, top, ha="right")
        write(_pair_name(pair, unseen), 19, top)
        write(f"{percent(pair.share)} of its pixels, {pair.pixels:,}", 19, top + 10, fontsize=7.5, color=pale)
    if unseen:
        write("* unseen class", 0, LINE * (len(pairs) + 1), color=pale)


def _pair_name(pair: ConfusedPair, unseen: Collection[str]) -> str:
    return f"{_label(pair.true, unseen)} → {_label(pair.predicted, unseen)}"


def _label(name: str, unseen: Collection[str]) -> str:
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1].rstrip()}…"
    return f"{short} *" if name in unseen else short
