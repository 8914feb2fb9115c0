"""The page of one evaluation: scores beside the paper's, classes, curves, confusion, examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_clip.evaluation.details import GROUPS, ConfusedPair, ImageResult, largest_classes
from cascade_clip.evaluation.scores import Scores
from cascade_clip.report.curves import LOSSES, VALIDATION
from cascade_clip.report.figures import NOT_COUNTED, RIGHT, WRONG, hex_colour
from cascade_clip.report.line_chart import LineChart, line_chart
from cascade_clip.report.matrix_table import MatrixTable, matrix_table
from cascade_clip.report.page import MISSING, data_uri, flattened, render_page, write_page
from cascade_clip.report.palette import FIRST_COLOURS, Colour
from cascade_clip.report.picture_sheets import PicturedImage

MOST_CONFUSION_CLASSES = 40
"""Larger confusion matrices are unreadable; the rest is summed in one column."""
LOWEST_IMAGES = 20
HISTOGRAM_BINS = 20
CARDS = (
    ("miou_seen", "Seen mIoU", "seen"),
    ("miou_unseen", "Unseen mIoU", "unseen"),
    ("hiou", "hIoU", "both"),
    ("miou", "mIoU", ""),
    ("mean_accuracy", "Mean accuracy", ""),
    ("pixel_accuracy", "Pixel accuracy", ""),
)
"""Figure, heading and group of each score."""
GROUP_HEADINGS = {"best": "Best images", "median": "Median images", "worst": "Worst images"}


@dataclass(frozen=True)
class EvaluationPage:
    """What the page of an evaluation shows.

    Attributes:
        title: Heading.
        record: What eval.json holds.
        scores: The scores, fractions.
        colours: K colours of the classes.
        paper: The paper's figures in percent by the name of the score; None where there are none for this split.
        paper_source: Table and row of the paper.
        confusion: (K, K) int64 counts, row = true class, column = predicted class.
        pairs: The pairs of classes that are confused most.
        images: How every image fares.
        pictures: Examples.
        log: Lines of metrics.jsonl; may be empty.
    """

    title: str
    record: Mapping[str, Any]
    scores: Scores
    colours: Sequence[Colour]
    paper: Mapping[str, float] | None
    paper_source: str | None
    confusion: NDArray[np.int64]
    pairs: Sequence[ConfusedPair]
    images: Sequence[ImageResult]
    pictures: Sequence[PicturedImage]
    log: Sequence[Mapping[str, Any]]


def write_evaluation_report(folder: Path, page: EvaluationPage) -> Path:
    """Write the page, whole or not at all.

    Args:
        folder: Folder of the page; made where it does not exist.
        page: What it shows.

    Returns:
        folder/index.html, one file with everything inside.

    Raises:
        UserError: The folder cannot be written to.
    """
    scores = page.scores
    html = render_page(
        "evaluation.html.jinja",
        title=page.title,
        record=page.record,
        settings=flattened({key: value for key, value in page.record.items() if key != "scores"}),
        cards=_cards(scores, page.paper),
        paper_source=page.paper_source if page.paper else None,
        has_unseen=bool(scores.unseen),
        classes=_class_rows(scores, page.colours),
        bars=_sorted_bars(scores),
        charts=training_charts(page.log),
        confusion=_confusion_table(page.confusion, scores.classes),
        confusion_classes=len(largest_classes(page.confusion, MOST_CONFUSION_CLASSES)),
        pairs=page.pairs,
        histogram=_histogram(page.images),
        lowest=_lowest(page.images),
        examples=_examples(page.pictures),
        error_colours=(("right", RIGHT), ("wrong", WRONG), ("not counted", NOT_COUNTED)),
    )
    return write_page(folder / "index.html", html)


def training_charts(log: Sequence[Mapping[str, Any]]) -> list[LineChart]:
    """Charts of a training run: terms of the loss, learning rate, validation scores in percent.

    Args:
        log: Lines of metrics.jsonl; lines without a step are passed over.
    """
    losses = {name: _logged(log, key) for key, name, *_ in LOSSES}
    scores = {name: _logged(log, key, "validation") for key, name, *_ in VALIDATION}
    if not scores[VALIDATION[1][1]]:
        scores = {"mIoU": _logged(log, "miou", "validation")}
    tones = [colour for _, _, colour, _ in VALIDATION]
    charts = (
        line_chart("Validation (%)", scores, tones[: len(scores)], from_zero=True),
        line_chart("Loss", losses, [colour for _, _, colour, _ in LOSSES]),
        line_chart("Learning rate", {"learning rate": _logged(log, "lr")}, (FIRST_COLOURS[2],), from_zero=True),
    )
    return [chart for chart in charts if chart is not None]


def _logged(log: Sequence[Mapping[str, Any]], key: str, part: str | None = None) -> list[tuple[float, float]]:
    """What the log says of one figure: (step, value); fractions of a validation in percent."""
    points = []
    for line in log:
        values = line if part is None else line.get(part, {})
        if (value := values.get(key)) is not None and "step" in line:
            points.append((line["step"], value if part is None else 100 * value))
    return points


def _cards(scores: Scores, paper: Mapping[str, float] | None) -> list[dict[str, str]]:
    cards = []
    for figure, heading, group in CARDS:
        value = 100 * getattr(scores, figure)
        if group and not scores.unseen:
            continue
        published = (paper or {}).get(figure, math.nan)
        cards.append(
            {
                "heading": heading,
                "group": group,
                "value": MISSING if math.isnan(value) else f"{value:.1f}",
                "paper": "" if math.isnan(published) else f"{published:.1f}",
                "difference": "" if math.isnan(value - published) else f"{value - published:+.1f}".replace("-", "−"),
            }
        )
    return cards


def _class_rows(scores: Scores, colours: Sequence[Colour]) -> list[dict[str, Any]]:
    unseen = set(scores.unseen)
    return [
        {
            "name": name,
            "colour": colours[index],
            "group": "unseen" if index in unseen else "seen",
            "iou": scores.iou[index],
            "accuracy": scores.accuracy[index],
            "pixels": scores.labelled_pixels[index],
        }
        for index, name in enumerate(scores.classes)
    ]


def _sorted_bars(scores: Scores) -> list[dict[str, Any]]:
    """IoU of every class that has one, the highest first."""
    unseen = set(scores.unseen)
    known = [index for index, value in enumerate(scores.iou) if not math.isnan(value)]
    return [
        {"name": scores.classes[i], "value": scores.iou[i], "group": "unseen" if i in unseen else "seen"}
        for i in sorted(known, key=lambda i: -scores.iou[i])
    ]


def _confusion_table(confusion: NDArray[np.int64], classes: Sequence[str]) -> MatrixTable:
    """The largest classes in the order of the classes, as shares of the true class, and all others in one column."""
    kept = sorted(largest_classes(confusion, MOST_CONFUSION_CLASSES))
    counts = confusion[np.ix_(kept, kept)]
    labelled = confusion[kept].sum(axis=1, keepdims=True)
    names = [classes[index] for index in kept]
    columns = list(names)
    others = labelled - counts.sum(axis=1, keepdims=True)
    if len(kept) < len(classes):
        counts, columns = np.concatenate([counts, others], axis=1), [*names, "all other classes"]
    shares = counts / labelled
    return matrix_table(
        shares,
        names,
        columns,
        texts=[
            [_share(value, count) for value, count in zip(*pair, strict=True)]
            for pair in zip(shares, counts, strict=True)
        ],
        details=[[f"{count:,} pixels" for count in row] for row in counts],
    )


def _share(share: float, pixels: int) -> str:
    return "0" if pixels == 0 else "<0.1" if share < 0.0005 else f"{100 * share:.1f}"


def _histogram(images: Sequence[ImageResult]) -> dict[str, Any] | None:
    """How many images have which mIoU, in twenty equal steps."""
    values = np.array([image.miou for image in images if not math.isnan(image.miou)])
    if not len(values):
        return None
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    bars = [
        {"count": int(count), "height": count / counts.max(), "range": f"{100 * low:.0f}–{100 * high:.0f} %"}
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True)
    ]
    low, middle, high = np.percentile(100 * values, (25, 50, 75))
    return {"bars": bars, "images": len(values), "low": low, "median": middle, "high": high}


def _lowest(images: Sequence[ImageResult]) -> list[ImageResult]:
    known = [image for image in images if not math.isnan(image.miou)]
    return sorted(known, key=lambda image: (image.miou, image.index))[:LOWEST_IMAGES]


def _examples(pictures: Sequence[PicturedImage]) -> list[dict[str, Any]]:
    """The examples by group, with their pictures inside the page."""
    examples = [
        {
            "heading": GROUP_HEADINGS[group],
            "cards": [
                {
                    "id": picture.id,
                    "miou": picture.miou,
                    "accuracy": picture.pixel_accuracy,
                    "size": picture.image.size,
                    "layers": [
                        (name, data_uri(getattr(picture, name.lower())))
                        for name in ("Image", "Label", "Prediction", "Errors")
                    ],
                    "classes": [(name, hex_colour(colour)) for name, colour in picture.classes],
                }
                for picture in pictures
                if picture.group == group
            ],
        }
        for group in GROUPS
    ]
    return [group for group in examples if group["cards"]]
