"""Figure of a training run: loss terms, learning rate and validation over the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade_clip.report.figures import BOTH, SEEN, UNSEEN, hex_colour, new_figure, png_bytes, set_heading
from cascade_clip.report.palette import FIRST_COLOURS, INK, PALE_INK, Colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSSES: tuple[tuple[str, str, Colour, str], ...] = (
    ("loss", "loss", INK, "-"),
    ("focal", "focal", FIRST_COLOURS[0], "--"),
    ("dice", "dice", FIRST_COLOURS[1], "-."),
    ("ssim", "SSIM", FIRST_COLOURS[1], "-."),
)
"""Terms of the loss as the log names them, as readers know them, their colours and strokes."""
VALIDATION: tuple[tuple[str, str, Colour, str], ...] = (
    ("miou_seen", "seen mIoU", SEEN, "o"),
    ("miou_unseen", "unseen mIoU", UNSEEN, "s"),
    ("hiou", "hIoU", BOTH, "^"),
)
WIDE_RANGE = 20
"""From this ratio of the largest to the smallest value of all terms on, the losses have a logarithmic axis."""


def curves_figure(log: Sequence[Mapping[str, Any]], *, title: str = "") -> bytes:
    """Draw what a run has logged so far.

    Args:
        log: Lines of metrics.jsonl: training lines with `step`, `loss`, its terms and `lr`; validation lines with
            `step` and `validation`, fractions 0..1 or None. Lines that hold neither are passed over.
        title: Names the run.

    Returns:
        A PNG with three panels; one without values says so.
    """
    training = [line for line in log if "loss" in line]
    validation = [{"step": line["step"], **line["validation"]} for line in log if "validation" in line]
    with new_figure(8.5, 7.2) as figure:
        set_heading(figure, title)
        losses, scores, rates = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.6])
        _draw_losses(losses, training)
        _draw_scores(scores, validation)
        _draw(rates, training, "lr", "learning rate", FIRST_COLOURS[2], linestyle="-")
        for axes in (losses, rates):  # matplotlib's own powers of ten are formulas, which the style does not read
            axes.yaxis.set_major_formatter("{x:g}")
        for axes, heading in ((losses, "loss"), (scores, "validation, %"), (rates, "learning rate")):
            axes.set_title(heading)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            if not axes.lines:
                _say_nothing(axes, "not validated yet" if axes is scores else "nothing logged yet")
        rates.set_xlabel("step")
        rates.set_xlim(left=0)
        return png_bytes(figure)


def _draw_losses(axes: Axes, training: Sequence[Mapping[str, Any]]) -> None:
    for key, name, colour, stroke in LOSSES:
        _draw(axes, training, key, name, colour, linestyle=stroke)
    values = [line[key] for line in training for key, *_ in LOSSES if _is_number(line.get(key)) and line[key] > 0]
    if values and max(values) > WIDE_RANGE * min(values):
        axes.set_yscale("log")
    elif values:
        axes.set_ylim(bottom=0)
    _name_lines(axes)


def _draw_scores(axes: Axes, validation: Sequence[Mapping[str, Any]]) -> None:
    percent = [{k: v if k == "step" or v is None else 100 * v for k, v in line.items()} for line in validation]
    supervised = all(line.get("miou_unseen") is None for line in validation)
    kinds = (("miou", "mIoU", SEEN, "o"),) if supervised else VALIDATION
    for key, name, colour, marker in kinds:
        _draw(axes, percent, key, name, colour, marker=marker, markersize=4, clip_on=False)
    if axes.lines:
        axes.set_ylim(0, 1.1 * max(1.0, axes.dataLim.y1))
    _name_lines(axes)


def _draw(axes: Axes, lines: Sequence[Mapping[str, Any]], key: str, name: str, colour: Colour, **style: Any) -> None:
    points = [(line["step"], line[key]) for line in lines if _is_number(line.get(key))]
    if len(points) == 1:
        style.setdefault("marker", "o")
    if points:
        axes.plot(*zip(*points, strict=True), color=hex_colour(colour), label=name, **style)


def _name_lines(axes: Axes) -> None:
    """Name the lines beside the panel's title, where they hide nothing."""
    if axes.lines:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1, ncols=len(axes.lines))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _say_nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=hex_colour(PALE_INK))
    axes.set_yticks([])
