"""Charts of an evaluation: IoU of every class, confusion matrix, mIoU of the images."""

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from cascade_clip.drawing.overlay import percent
from cascade_clip.drawing.palette import BOTH, HIGHLIGHT, PALE_INK, SEEN, UNSEEN, hex_colour
from cascade_clip.errors import counted
from cascade_clip.evaluation.details import ConfusedPair, ImageResult, largest_classes
from cascade_clip.evaluation.scores import Scores
from cascade_clip.report.charts import LARGE_CELLS, Spec, chart_png, isolated, matrix_chart, names_axis, text_chart

CLASSES_OF_A_COLUMN = 40
BAR, ROW = 15, 1060
"""Height of a class, and the width of all columns together, in pixels."""
MOST_CONFUSION_CLASSES = 40
"""Larger confusion matrices are unreadable; the rest is summed in one column."""
PAIRS_NAMED, LONGEST_NAME = 10, 22
WRITTEN = 0.005
HISTOGRAM_BINS = 20


def class_iou_figure(scores: Scores, *, title: str = "") -> bytes:
    """Draw the bars of `class_iou_columns` side by side as PNG; `title` says what was measured."""
    columns = class_iou_columns(scores) or [text_chart(["Nothing is labelled."])]
    return chart_png({"hconcat": columns, "spacing": 24}, title, notes=["IoU of every class; dashed: mIoU"])


def class_iou_columns(scores: Scores) -> list[Spec]:
    """Draw a bar for every class that has an IoU, the best first; unseen ones in their colour and with a star.

    Each chart has at most 40 classes, to stand side by side; the first has the legend with the means.
    """
    order = sorted((i for i, iou in enumerate(scores.iou) if not math.isnan(iou)), key=lambda i: (-scores.iou[i], i))
    count = max(1, -(-len(order) // CLASSES_OF_A_COLUMN))
    each, width = -(-len(order) // count), min(500, ROW // count - 170)
    parts = [order[number * each : (number + 1) * each] for number in range(count)]
    return [_bars(scores, part, width, legend=number == 0) for number, part in enumerate(parts) if part]


def _bars(scores: Scores, chosen: Sequence[int], width: int, *, legend: bool) -> Spec:
    kinds = [("seen" if scores.unseen else "all", scores.miou_seen, SEEN)]
    kinds += [("* unseen", scores.miou_unseen, UNSEEN)] if scores.unseen else []
    labels = [name if math.isnan(mean) else f"{name}: mIoU {100 * mean:.1f} %" for name, mean, _ in kinds]
    means = [{"kind": labels[k], "iou": 100 * mean} for k, (_, mean, _) in enumerate(kinds) if not math.isnan(mean)]
    bars = []
    for place, index in enumerate(chosen):
        value, unseen = 100 * scores.iou[index], index in scores.unseen
        group = f" ({'unseen' if unseen else 'seen'})" if scores.unseen else ""
        says = f"{isolated(scores.classes[index])}{group}: {value:.1f} %"
        bars.append({"place": place, "kind": labels[unseen], "iou": value, "text": f"{value:.1f}", "says": says})
    colours = {"domain": labels, "range": [hex_colour(tone) for *_, tone in kinds]}
    key = {"orient": "bottom", "direction": "vertical", "title": None, "symbolType": "square"} if legend else None
    names = [_starred(scores.classes[index], starred=index in scores.unseen) for index in chosen]
    position = {"field": "place", "type": "ordinal", "axis": names_axis(names, labelLimit=200)}
    axis = {"values": [0, 50, 100], "title": "IoU, %", "domain": False, "ticks": False}
    pale = {"value": hex_colour(PALE_INK)}
    written = {"y": position, "x": {"value": width + 6}, "text": {"field": "text"}, "color": pale}
    rule = {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.3, "aria": False}
    return {
        "data": {"values": bars},
        "width": width,
        "height": {"step": BAR},
        "encoding": {
            "x": {"field": "iou", "type": "quantitative", "scale": {"domain": [0, 100]}, "axis": axis},
            "color": {"field": "kind", "type": "nominal", "scale": colours, "legend": key},
        },
        "layer": [
            {
                "mark": {"type": "bar", "height": {"band": 0.75}},
                "encoding": {"y": position, "description": {"field": "says"}},
            },
            {"mark": rule, "data": {"values": means}},
            {"mark": {"type": "text", "align": "left", "fontSize": 9.5, "aria": False}, "encoding": written},
        ],
    }


def confusion_figure(
    confusion: NDArray[np.int64],
    classes: Sequence[str],
    pairs: Sequence[ConfusedPair],
    *,
    unseen: Collection[str] = (),
    title: str = "",
) -> bytes:
    """Draw a confusion matrix as PNG, the ten pairs that cost most pixels beside it; see `confusion_chart`."""
    named = pairs[:PAIRS_NAMED]
    chart = confusion_chart(confusion, classes, named, unseen) or text_chart(["Nothing is labelled."])
    lines = ["Most pixels lost, as share of the true class's pixels:" if named else "Nothing is confused."]
    for place, pair in enumerate(named, start=1):
        true, predicted = (
            isolated(_starred(_cut(name), starred=name in unseen)) for name in (pair.true, pair.predicted)
        )
        lines.append(f"{place}. {true} → {predicted}: {percent(pair.share)}, {counted(pair.pixels, 'pixel')}")
    notes = ["* unseen class"] if unseen else []
    return chart_png({"hconcat": [chart, text_chart(lines)], "spacing": 30}, title, notes=notes)


def confusion_chart(
    confusion: NDArray[np.int64], classes: Sequence[str], pairs: Sequence[ConfusedPair], unseen: Collection[str] = ()
) -> Spec | None:
    """Draw what the pixels of each class are taken for, from counts (K, K) by true and predicted class.

    Rows are the 40 classes with most labelled pixels, in the order of the classes, as shares of the row's pixels; what
    is taken for a class that is not shown stands in a last column, so that every row is whole. Pairs that are shown get
    a frame, unseen classes a star. None: nothing is labelled.
    """
    shown = sorted(largest_classes(confusion, MOST_CONFUSION_CLASSES))
    if not shown:
        return None
    rows = [_starred(classes[index], starred=classes[index] in unseen) for index in shown]
    columns, counts = list(rows), confusion[np.ix_(shown, shown)]
    labelled = confusion[shown].sum(axis=1, keepdims=True)
    if len(shown) < len(classes):
        columns.append("all other classes")
        counts = np.hstack([counts, labelled - counts.sum(axis=1, keepdims=True)])
    shares, digits = counts / labelled, 1 if len(columns) <= LARGE_CELLS else 0
    says = [
        [
            f"labelled {isolated(row)}, predicted {isolated(column)}: {_share(share, pixels)} %,"
            f" {counted(pixels, 'pixel')}"
            for column, share, pixels in zip(columns, shares[place], counts[place], strict=True)
        ]
        for place, row in enumerate(rows)
    ]
    places = {classes[index]: place for place, index in enumerate(shown)}
    known = [(places.get(pair.true), places.get(pair.predicted)) for pair in pairs]
    return matrix_chart(
        shares,
        rows,
        columns,
        texts=[["" if share < WRITTEN else f"{100 * share:.{digits}f}" for share in row] for row in shares],
        says=says,
        axes=("true class", "predicted class"),
        legend={"title": "share of the true class's pixels", "format": ".0%"},
        frames=[(row, column, HIGHLIGHT) for row, column in known if row is not None and column is not None],
    )


def histogram_chart(images: Sequence[ImageResult]) -> tuple[Spec, str] | None:
    """Draw how many images have which mIoU, in twenty equal steps; gives the chart and what it says in words.

    None: no image has an mIoU.
    """
    values = np.array([100 * image.miou for image in images if not math.isnan(image.miou)])
    if not len(values):
        return None
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS, range=(0.0, 100.0))
    bins = [
        {
            "low": low,
            "high": high,
            "count": int(count),
            "says": f"{low:.0f}–{high:.0f} %: {counted(int(count), 'image')}",
        }
        for count, low, high in zip(counts, edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
    low, median, high = np.percentile(values, (25, 50, 75))
    across = {"values": [0, 25, 50, 75, 100], "title": "mIoU, %", "grid": False}
    # Vega would label halves, rounded, as whole numbers.
    few: Spec = {"values": list(range(counts.max() + 1))} if counts.max() <= 3 else {"tickCount": 3}
    up = {"title": "images", **few, "domain": False, "ticks": False, "format": ",d"}
    spec: Spec = {
        "data": {"values": bins},
        "width": ROW,
        "height": 110,
        "mark": {"type": "bar", "color": hex_colour(BOTH), "binSpacing": 3},
        "encoding": {
            "x": {"field": "low", "type": "quantitative", "bin": {"binned": True, "step": 5}, "axis": across},
            "x2": {"field": "high"},
            "y": {"field": "count", "type": "quantitative", "axis": up},
            "description": {"field": "says"},
        },
    }
    return spec, f"median {median:.1f} %, half of the images between {low:.1f} and {high:.1f} %"


def _share(share: float, pixels: int) -> str:
    return "0" if pixels == 0 else "<0.1" if share < 0.0005 else f"{100 * share:.1f}"


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1].rstrip()}…"


def _starred(name: str, *, starred: bool) -> str:
    """A name that stays marked where it is cut off."""
    return f"* {name}" if starred else name
