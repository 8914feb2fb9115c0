"""Charts of an evaluation: IoU of every class, confusion matrix, mIoU of the images."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade_clip.evaluation.details import ConfusedPair, ImageResult, largest_classes
from cascade_clip.evaluation.scores import Scores
from cascade_clip.report.charts import (
    MOST_COLUMNS_OF_LARGE_CELLS,
    Spec,
    cell_size,
    chart_png,
    matrix_chart,
    names_axis,
    isolated,
    printable,
)
from cascade_clip.report.figures import BOTH, HIGHLIGHT, SEEN, UNSEEN, hex_colour
from cascade_clip.report.legend import PALE_INK, percent

CLASSES_OF_A_COLUMN = 40
BAR, ROW = 15, 1060
"""Height of a class, and the width of all columns together, in pixels."""
MOST_CONFUSION_CLASSES = 40
"""Larger confusion matrices are unreadable; the rest is summed in one column."""
PAIRS_NAMED = 10
WRITTEN = 0.005
"""Smaller shares are not written into their cells."""
HISTOGRAM_BINS = 20


def class_iou_columns(scores: Scores) -> list[Spec]:
    """Draw a bar for every class that has an IoU, the best first; unseen ones in their colour and with a star.

    Args:
        scores: What was measured.

    Returns:
        Charts of at most 40 classes, to stand side by side; the first has the legend with the means.
    """
    order = sorted((i for i, iou in enumerate(scores.iou) if not math.isnan(iou)), key=lambda i: (-scores.iou[i], i))
    count = max(1, -(-len(order) // CLASSES_OF_A_COLUMN))
    each = -(-len(order) // count)
    parts = [order[number * each : (number + 1) * each] for number in range(count)]
    width = min(500, ROW // count - 165)
    return [_bars(scores, part, width, legend=number == 0) for number, part in enumerate(parts) if part]


def class_iou_figure(scores: Scores, *, title: str = "") -> bytes:
    """The bars of `class_iou_columns` side by side as PNG; the arguments are those of it and of `chart_png`."""
    columns = class_iou_columns(scores)
    if not columns:
        return _nothing_labelled(title)
    return chart_png({"hconcat": columns, "spacing": 24}, title)


def _bars(scores: Scores, chosen: Sequence[int], width: int, *, legend: bool) -> Spec:
    kinds = [("classes" if not scores.unseen else "seen classes", scores.miou_seen, SEEN)]
    kinds += [("unseen classes *", scores.miou_unseen, UNSEEN)] if scores.unseen else []
    labels = [name if math.isnan(mean) else f"{name}, mIoU {100 * mean:.1f} % (dashed)" for name, mean, _ in kinds]
    means = [{"kind": labels[k], "iou": 100 * mean} for k, (_, mean, _) in enumerate(kinds) if not math.isnan(mean)]
    names = [f"{scores.classes[i]} *" if i in scores.unseen else scores.classes[i] for i in chosen]
    bars = [
        {"place": place, "kind": labels[index in scores.unseen], "iou": 100 * scores.iou[index]}
        for place, index in enumerate(chosen)
    ]
    for bar, index in zip(bars, chosen, strict=True):
        group = f" ({'unseen' if index in scores.unseen else 'seen'})" if scores.unseen else ""
        bar["text"] = f"{bar['iou']:.1f}"
        bar["says"] = f"{isolated(scores.classes[index])}{group}: {bar['text']} %"
    colour = {"domain": labels, "range": [hex_colour(tone) for *_, tone in kinds]}
    key = {"orient": "bottom", "direction": "vertical", "title": None, "symbolType": "square"} if legend else None
    axis = {"values": [0, 50, 100], "title": "IoU, %", "domain": False, "ticks": False}
    place = {"field": "place", "type": "ordinal", "axis": names_axis(names, labelLimit=120)}
    value = {"field": "iou", "type": "quantitative", "scale": {"domain": [0, 100]}, "axis": axis}
    number = {"type": "text", "align": "left", "dx": 3, "fontSize": 9.5, "aria": False}
    rule = {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.3, "opacity": 0.8, "aria": False}
    return {
        "data": {"values": bars},
        "width": width,
        "height": {"step": BAR},
        "encoding": {"x": value, "color": {"field": "kind", "type": "nominal", "scale": colour, "legend": key}},
        "layer": [
            {
                "mark": {"type": "bar", "height": {"band": 0.75}},
                "encoding": {"y": place, "description": {"field": "says"}},
            },
            {"mark": rule, "data": {"values": means}},
            {
                "mark": number,
                "encoding": {"y": place, "text": {"field": "text"}, "color": {"value": hex_colour(PALE_INK)}},
            },
        ],
    }


@dataclass(frozen=True)
class ConfusionMatrix:
    """What the pixels of each class are taken for: the largest classes, in the order of the classes.

    Attributes:
        shown: Indices of the S classes that are shown.
        names: Their names, unseen ones with a star.
        counts: (S, S) pixels, or (S, S + 1) where the last column sums all classes that are not shown.
    """

    shown: tuple[int, ...]
    names: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.names if self.counts.shape[1] == len(self.names) else (*self.names, "all other classes")

    @property
    def shares(self) -> NDArray[np.float64]:
        """The counts as shares of the true class's pixels, rows summing to 1."""
        shares: NDArray[np.float64] = self.counts / self.counts.sum(axis=1, keepdims=True)
        return shares


def largest_confusion(
    confusion: NDArray[np.int64], classes: Sequence[str], unseen: Collection[str] = ()
) -> ConfusionMatrix:
    """Choose the classes with most labelled pixels.

    Args:
        confusion: (K, K) counts, row = true class, column = predicted class.
        classes: The K class names.
        unseen: Names of the unseen classes.
    """
    kept = sorted(largest_classes(confusion, MOST_CONFUSION_CLASSES))
    counts = confusion[np.ix_(kept, kept)]
    if len(kept) < len(classes):
        others = confusion[kept].sum(axis=1, keepdims=True) - counts.sum(axis=1, keepdims=True)
        counts = np.concatenate([counts, others], axis=1)
    names = tuple(f"{classes[i]} *" if classes[i] in unseen else classes[i] for i in kept)
    return ConfusionMatrix(tuple(kept), names, counts)


def confusion_chart(matrix: ConfusionMatrix, classes: Sequence[str], pairs: Sequence[ConfusedPair] = ()) -> Spec:
    """Draw a confusion matrix as shares of the true class's pixels.

    Args:
        matrix: The matrix; at least one class.
        classes: All K class names.
        pairs: Pairs of classes that get a frame where they are shown.
    """
    shares = matrix.shares
    digits = 1 if len(matrix.columns) <= MOST_COLUMNS_OF_LARGE_CELLS else 0
    texts = [["" if share < WRITTEN else f"{100 * share:.{digits}f}" for share in row] for row in shares]
    says = [
        [
            f"labelled {isolated(row)}, predicted {isolated(column)}: {_share(share, pixels)} %, {pixels:,} pixels"
            for column, share, pixels in zip(matrix.columns, shares[i], matrix.counts[i], strict=True)
        ]
        for i, row in enumerate(matrix.names)
    ]
    places = {classes[index]: place for place, index in enumerate(matrix.shown)}
    frames = [
        (places[pair.true], places[pair.predicted], HIGHLIGHT)
        for pair in pairs
        if pair.true in places and pair.predicted in places
    ]
    legend = {"title": "share of the true class's pixels", "format": ".0%", "values": [0, 0.5, 1]}
    axes = ("true class", "predicted class")
    return matrix_chart(
        shares, matrix.names, matrix.columns, texts=texts, says=says, axes=axes, legend=legend, frames=frames
    )


def confusion_figure(
    confusion: NDArray[np.int64],
    classes: Sequence[str],
    pairs: Sequence[ConfusedPair],
    *,
    unseen: Collection[str] = (),
    title: str = "",
) -> bytes:
    """Draw a confusion matrix with the pairs that cost most pixels beside it.

    Args:
        confusion: (K, K) counts, row = true class, column = predicted class.
        classes: The K class names.
        pairs: The pairs to name, the worst first; the first ten are named, and framed in the matrix.
        unseen: Names of the unseen classes, which are marked with a star.
        title: What was measured.

    Returns:
        A PNG.
    """
    matrix, named = largest_confusion(confusion, classes, unseen), list(pairs[:PAIRS_NAMED])
    if not matrix.shown:
        return _nothing_labelled(title)
    both = [confusion_chart(matrix, classes, named), _pair_list(named, unseen)]
    width = 500 + cell_size(len(matrix.names), len(matrix.columns))[0] * len(matrix.columns)
    notes = ["* unseen class"] if unseen else []
    return chart_png({"hconcat": both, "spacing": 30}, title, width=int(width), notes=notes)


def _pair_list(pairs: Sequence[ConfusedPair], unseen: Collection[str]) -> Spec:
    def name(one: str) -> str:
        return printable(f"{one} *" if one in unseen else one)

    lines = [
        {
            "place": place,
            "pair": f"{place}. {name(pair.true)} → {name(pair.predicted)}",
            "cost": f"{percent(pair.share)} of its pixels, {pair.pixels:,}",
        }
        for place, pair in enumerate(pairs, start=1)
    ]
    text = {"type": "text", "align": "left", "limit": 300}
    pale = {"color": {"value": hex_colour(PALE_INK)}, "text": {"field": "cost"}}
    return {
        "title": {"text": "Most pixels lost" if pairs else "Nothing is confused", "fontSize": 12},
        "data": {"values": lines},
        "width": 300,
        "height": {"step": 34},
        "encoding": {"y": {"field": "place", "type": "ordinal", "axis": None}, "x": {"value": 0}},
        "layer": [
            {"mark": {**text, "dy": -6}, "encoding": {"text": {"field": "pair"}}},
            {"mark": {**text, "dy": 8, "dx": 14, "fontSize": 9.5}, "encoding": pale},
        ],
    }


def histogram_chart(images: Sequence[ImageResult]) -> tuple[Spec, str] | None:
    """Draw how many images have which mIoU, in twenty equal steps.

    Args:
        images: How every image fares.

    Returns:
        The chart and what it says in words; None where no image has an mIoU.
    """
    values = np.array([100 * image.miou for image in images if not math.isnan(image.miou)])
    if not len(values):
        return None
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS, range=(0.0, 100.0))
    bins = [
        {"low": low, "high": high, "count": int(count), "says": f"{low:.0f}–{high:.0f} %: {count} images"}
        for count, low, high in zip(counts, edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
    low, median, high = np.percentile(values, (25, 50, 75))
    across = {"values": [0, 25, 50, 75, 100], "title": "mIoU, %", "grid": False}
    up = {"title": "images", "tickMinStep": 1, "tickCount": 3, "domain": False, "ticks": False, "format": ",d"}
    spec = {
        "data": {"values": bins},
        "width": 1060,
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


def _nothing_labelled(title: str) -> bytes:
    said = {"type": "text", "text": "Nothing is labelled.", "color": hex_colour(PALE_INK), "fontSize": 12}
    return chart_png({"width": 300, "height": 60, "data": {"values": [{}]}, "mark": said}, title, width=300)
