"""The pictures of one evaluation as files: examples, confusion, IoU of seen and unseen classes."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path

from cascade_clip.errors import UserError
from cascade_clip.evaluation.details import GROUPS, ImageResult
from cascade_clip.files import write_files
from cascade_clip.report.evaluation_charts import class_iou_figure, confusion_figure
from cascade_clip.report.evaluation_page import EvaluationPage
from cascade_clip.report.picture_sheets import picture_sheet

QUALITY = 92
_EXAMPLE = re.compile(rf"({'|'.join(GROUPS)})-\d+\.jpg")


def write_evaluation_pictures(folder: Path, page: EvaluationPage) -> list[Path]:
    """Write all pictures of an evaluation, or none where one fails.

    Args:
        folder: Made where it does not exist. Examples of an earlier evaluation in it are removed.
        page: The evaluation.

    Returns:
        `best-1.jpg` and so on, `median-1.jpg`, `worst-1.jpg` (image, label, prediction, errors), `confusion.png`,
        `classes.png` (IoU of seen and unseen classes) and `images.csv` (every image's own figures).

    Raises:
        UserError: The folder cannot be written to.
    """
    unseen = frozenset(page.scores.classes[index] for index in page.scores.unseen)
    contents = {
        "confusion.png": confusion_figure(
            page.confusion, page.scores.classes, page.pairs, unseen=unseen, title=page.title
        ),
        "classes.png": class_iou_figure(page.scores, title=page.title),
        "images.csv": _table(page.images),
    }
    for group in GROUPS:
        for number, pictured in enumerate((one for one in page.pictures if one.group == group), start=1):
            encoded = io.BytesIO()
            picture_sheet([pictured], unseen).save(encoded, "JPEG", quality=QUALITY)
            contents[f"{group}-{number}.jpg"] = encoded.getvalue()
    files = {folder / name: content for name, content in contents.items()}
    try:
        write_files(files)
        for file in set(folder.iterdir()).difference(files):
            if _EXAMPLE.fullmatch(file.name):
                file.unlink()
    except OSError as error:
        raise UserError(f'The pictures cannot be written to "{folder}": {error.strerror or error}.') from error
    return list(files)


def _table(images: Sequence[ImageResult]) -> bytes:
    """CSV of the images in the order of the dataset; figures are fractions, empty where they do not exist."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "id", "miou", "pixel_accuracy"])
    for one in images:
        figures = ("" if math.isnan(value) else repr(value) for value in (one.miou, one.pixel_accuracy))
        writer.writerow([one.index, one.id, *figures])
    return text.getvalue().encode()
