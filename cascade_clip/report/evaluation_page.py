"""The page and the pictures of one evaluation: scores beside the paper's, classes, curves, confusion, examples."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_clip.drawing.palette import NOT_COUNTED, RIGHT, WRONG
from cascade_clip.evaluation.details import GROUPS, ImageResult, largest_classes
from cascade_clip.evaluation.evaluate import EvaluationResult
from cascade_clip.evaluation.scores import Scores
from cascade_clip.output_folder import check_own_files
from cascade_clip.report.charts import chart_svg
from cascade_clip.report.curves import Log, curve_panels, curve_summary
from cascade_clip.report.evaluation_charts import (
    MOST_CONFUSION_CLASSES,
    class_iou_columns,
    class_iou_figure,
    confusion_chart,
    confusion_figure,
    histogram_chart,
)
from cascade_clip.report.page import MISSING, flattened, render_page, write_page, write_report
from cascade_clip.report.picture_sheets import PicturedImage, picture_sheet

CURVES_WIDTH, CURVES_HEIGHT = 300, 180
LOWEST_IMAGES = 20
QUALITY = 92
TABLE = "images.csv"
_COLUMNS = ("index", "id", "miou", "pixel_accuracy")
_EXAMPLE = re.compile(rf"({'|'.join(GROUPS)})-\d+\.jpg")
CARDS = (
    ("miou_seen", "Seen mIoU", "seen"),
    ("miou_unseen", "Unseen mIoU", "unseen"),
    ("hiou", "hIoU", "both"),
    ("miou", "mIoU", ""),
    ("mean_accuracy", "Mean accuracy", ""),
    ("pixel_accuracy", "Pixel accuracy", ""),
)
GROUP_HEADINGS = {"best": "Best images", "median": "Median images", "worst": "Worst images"}


@dataclass(frozen=True)
class EvaluationPage:
    """What the page of an evaluation shows.

    `record` is what eval.json holds; `pictures` are examples; `log` the lines of metrics.jsonl; `paper` the paper's
    figures in percent by the name of the score (None: it has none for this split), from its table and row
    `paper_source`.
    """

    title: str
    record: Mapping[str, Any]
    result: EvaluationResult
    pictures: Sequence[PicturedImage]
    log: Log
    paper: Mapping[str, float] | None
    paper_source: str | None
    published: Sequence[tuple[str, float]] = ()
    """Published mIoU of the same training-free method in percent, by name and source."""
    sources: Sequence[str] = ()
    """What the letters of these sources stand for."""


def write_evaluation_report(folder: Path, page: EvaluationPage) -> Path:
    """Write folder/index.html, one file with everything inside, whole or not at all.

    Raises UserError: the folder cannot be written to.
    """
    scores, known = page.result.scores, [image for image in page.result.images if not math.isnan(image.miou)]
    html = render_page(
        "evaluation.html.jinja",
        title=page.title,
        record=page.record,
        settings=flattened({key: value for key, value in page.record.items() if key != "scores"}),
        cards=_cards(scores, page.paper),
        paper_source=page.paper_source if page.paper else None,
        published=[(name, miou, 100 * scores.miou - miou) for name, miou in page.published],
        sources=page.sources,
        has_unseen=bool(scores.unseen),
        scores=scores,
        colours=page.result.split.colours,
        **_charts(page),
        confusion_classes=len(largest_classes(page.result.confusion, MOST_CONFUSION_CLASSES)),
        pairs=page.result.confused,
        lowest=sorted(known, key=lambda image: (image.miou, image.index))[:LOWEST_IMAGES],
        pictures=page.pictures,
        examples=[
            (heading, [p for p in page.pictures if p.group == group]) for group, heading in GROUP_HEADINGS.items()
        ],
        error_colours=(("right", RIGHT), ("wrong", WRONG), ("not counted", NOT_COUNTED)),
    )
    return write_page(folder / "index.html", html)


def _charts(page: EvaluationPage) -> dict[str, Any]:
    """The drawings of the page, by the names that the template has for them."""
    scores, histogram = page.result.scores, histogram_chart(page.result.images)
    bars_summary = "IoU of the classes, sorted; the values are in the table below."
    panels = [panel for panel in curve_panels(page.log, CURVES_WIDTH, CURVES_HEIGHT).values() if panel]
    confusion = confusion_chart(page.result.confusion, scores.classes, page.result.confused, page.result.split.unseen)
    confusion_summary = "Confusion matrix in percent of the labelled pixels of the class of the row"
    drawn: dict[str, Any] = {
        "bars": [chart_svg(one, bars_summary, name=f"classes-{k}") for k, one in enumerate(class_iou_columns(scores))],
        "charts": [chart_svg(panel, curve_summary(panel), name=f"curves-{k}") for k, panel in enumerate(panels)],
        "confusion": confusion and chart_svg(confusion, confusion_summary, name="confusion"),
        "histogram": None,
    }
    if histogram:
        chart, words = histogram
        svg = chart_svg(chart, f"How many images have which mIoU: {words}.", name="images")
        drawn["histogram"] = {"chart": svg, "words": words}
    return drawn


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


def write_evaluation_pictures(folder: Path, page: EvaluationPage) -> list[Path]:
    """Write all pictures of an evaluation, or none where one fails; those of an earlier one in the folder go.

    Returns:
        `best-1.jpg` and so on, `median-1.jpg`, `worst-1.jpg` (image, label, prediction, errors), `confusion.png`,
        `classes.png` (IoU of seen and unseen classes) and `images.csv` (every image's own figures).

    Raises:
        UserError: The folder cannot be written to.
    """
    check_pictures_folder(folder)
    result, unseen = page.result, page.result.split.unseen
    confusion = confusion_figure(
        result.confusion, result.scores.classes, result.confused, unseen=unseen, title=page.title
    )
    contents = {
        # The table is moved into place first: without it the pictures would count as the user's.
        TABLE: _table(result.images),
        "confusion.png": confusion,
        "classes.png": class_iou_figure(result.scores, title=page.title),
    }
    for group in GROUPS:
        for number, pictured in enumerate((one for one in page.pictures if one.group == group), start=1):
            encoded = io.BytesIO()
            picture_sheet([pictured], unseen).save(encoded, "JPEG", quality=QUALITY)
            contents[f"{group}-{number}.jpg"] = encoded.getvalue()
    files = {folder / name: content for name, content in contents.items()}
    write_report(files, "pictures")
    for file in set(folder.iterdir()).difference(files):
        if _EXAMPLE.fullmatch(file.name):
            file.unlink()
    return list(files)


def check_pictures_folder(folder: Path) -> None:
    """Check before the work that the pictures can be written without replacing, or deleting, any of the user's.

    Raises UserError: a file of such a name is there without a table of ours.
    """
    try:
        with (folder / TABLE).open("rb") as opened:
            own = opened.readline(100).strip() == ",".join(_COLUMNS).encode()
    except OSError:
        own = False
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    made = sorted(name for name in names if name in {TABLE, "confusion.png", "classes.png"} or _EXAMPLE.fullmatch(name))
    check_own_files([folder / name for name in made], own)


def _table(images: Sequence[ImageResult]) -> bytes:
    """CSV of the images in the order of the dataset; figures are fractions, empty where they do not exist."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for one in images:
        figures = ("" if math.isnan(value) else repr(value) for value in (one.miou, one.pixel_accuracy))
        writer.writerow([one.index, one.id, *figures])
    return text.getvalue().encode()
