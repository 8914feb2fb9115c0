"""Figure of seen against unseen classes: the IoU of each, sorted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cascade_clip.evaluation.scores import Scores
from cascade_clip.report.figures import SEEN, UNSEEN, hex_colour, new_figure, png_bytes, set_heading
from cascade_clip.report.palette import PALE_INK, PAPER, Colour

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

CLASSES_OF_A_COLUMN = 60
LONGEST_NAME = 24
BAR = 0.19
"""Height of a class in inches."""


def class_iou_figure(scores: Scores, *, title: str = "") -> bytes:
    """Draw a bar for every class that occurs, the best first; unseen ones in their colour, hatched and with a star.

    Args:
        scores: What was measured.
        title: Says on what.

    Returns:
        A PNG; its height follows from the number of classes, above 60 of them there are several columns.
    """
    order = sorted((i for i, iou in enumerate(scores.iou) if not math.isnan(iou)), key=lambda i: (-scores.iou[i], i))
    columns = max(1, -(-len(order) // CLASSES_OF_A_COLUMN))
    each = max(1, -(-len(order) // columns))
    with new_figure(5.6 * columns, 1.5 + BAR * max(each, 4)) as figure:
        set_heading(figure, title)
        panels = figure.subplots(1, columns, squeeze=False)[0]
        for number, axes in enumerate(panels):
            _draw_bars(axes, scores, order[number * each : (number + 1) * each], each)
        figure.legend(handles=_key(scores), loc="outside lower left", ncols=2, handlelength=1.6, fontsize=8)
        return png_bytes(figure)


def _draw_bars(axes: Axes, scores: Scores, chosen: list[int], places: int) -> None:
    unseen = set(scores.unseen)
    for place, index in enumerate(chosen):
        percent = 100 * scores.iou[index]
        colour, hatch = (UNSEEN, "////") if index in unseen else (SEEN, None)
        axes.barh(place, percent, height=0.72, color=hex_colour(colour), hatch=hatch, edgecolor="white", linewidth=0)
        free = {"facecolor": hex_colour(PAPER), "edgecolor": "none", "pad": 0.6}
        figure = axes.text(percent + 1, place, f"{percent:.1f}", va="center", fontsize=7, bbox=free, zorder=4)
        figure.set_color(hex_colour(PALE_INK))
    names = [_label(scores.classes[index], unseen=index in unseen) for index in chosen]
    axes.set_yticks(range(len(chosen)), names, fontsize=8)
    axes.set_ylim(places - 0.4, -0.6)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("IoU, %")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for value, colour in ((scores.miou_seen, SEEN), (scores.miou_unseen, UNSEEN)):
        if not math.isnan(value):
            axes.axvline(100 * value, color=hex_colour(colour), linewidth=1.2, linestyle="--")


def _key(scores: Scores) -> list[Artist]:
    """What the legend lists: both kinds of bars, and the dashed lines of their means."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    kinds: list[tuple[str, float, Colour, str | None]] = [
        ("seen classes" if scores.unseen else "classes", scores.miou_seen, SEEN, None)
    ]
    kinds += [("unseen classes *", scores.miou_unseen, UNSEEN, "////")] if scores.unseen else []
    handles: list[Artist] = []
    for name, mean, colour, hatch in kinds:
        handles.append(Patch(facecolor=hex_colour(colour), edgecolor="white", hatch=hatch, linewidth=0, label=name))
        if not math.isnan(mean):
            label = f"their mIoU, {100 * mean:.1f} %"
            handles.append(Line2D([], [], color=hex_colour(colour), linewidth=1.2, linestyle="--", label=label))
    return handles


def _label(name: str, *, unseen: bool) -> str:
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1].rstrip()}…"
    return f"{short} *" if unseen else short
