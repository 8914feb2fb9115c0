"""What the commands print: score tables, prediction tables and JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Column, Table
from rich.text import Text

from cascade_clip.config import schema
from cascade_clip.drawing import overlay, palette
from cascade_clip.errors import UserError, reason_of
from cascade_clip.evaluation import details, published_training_free
from cascade_clip.evaluation import published as published_figures
from cascade_clip.evaluation import scores as scoring
from cascade_clip.files import json_text, write_files
from cascade_clip.inference import segmentation as segmentations
from cascade_clip_cli.checked_options import STDOUT
from cascade_clip_cli.console import print_result, prints_any_character

MISSING = "–"
right = partial(Column, justify="right")
"""A column of figures under its heading."""
MOST_CLASSES_OF_A_LINE = 4


def scores_table(
    scores: scoring.Scores,
    paper: schema.PaperFigure | None,
    split: str,
    *,
    title: str,
    others: Sequence[published_training_free.PublishedMethod] = (),
) -> Table:
    """The figures of one evaluation on a split in percent.

    Below them stand those of the paper that the recipe reproduces, where it has some for the split, and the published
    figures for it of the same training-free method.
    """
    headings = {"miou_seen": "seen mIoU", "miou_unseen": "unseen mIoU", "hiou": "hIoU"} if scores.unseen else {}
    headings |= {"miou": "mIoU", "mean_accuracy": "mean acc.", "pixel_accuracy": "pixel acc."}
    columns, table = list(headings), plain_table(title, "", *map(right, headings.values()))
    measured = {column: 100 * getattr(scores, column) for column in columns}
    table.add_row("here", *(_figure(measured[column]) for column in columns), style="bold")
    published = published_figures.paper_figures(paper.table, paper.row, split) if paper is not None else None
    if published is not None and paper is not None:
        table.add_row("paper", *(_figure(published.get(column, math.nan), 1) for column in columns))
        differences = (measured[column] - published.get(column, math.nan) for column in columns)
        table.add_row("difference", *(_figure(value, 1, sign=True) for value in differences), style="dim")
        table.caption = f'paper: {paper.table}, "{paper.row}"'
    for row in others:
        figures = (_figure(row.miou[split] if column == "miou" else math.nan, 1) for column in columns)
        table.add_row(f"published: {row.shown}", *figures)
    if others:
        table.caption = "\n".join(published_training_free.sources_of(others))
    return table


def per_class_table(scores: scoring.Scores) -> Table:
    """IoU and accuracy of every class in percent; unseen classes are marked where the split has some."""
    names = ["class", ""] if scores.unseen else ["class"]
    figures = (right("IoU"), right("accuracy"), right("labelled pixels", style="dim"))
    table = plain_table("per class", *names, *figures)
    unseen = set(scores.unseen)
    for index, name in enumerate(scores.classes):
        mark = Text("unseen", style="bold magenta") if index in unseen else Text("seen", style="dim")
        table.add_row(
            name,
            *([mark] if unseen else []),
            _figure(100 * scores.iou[index]),
            _figure(100 * scores.accuracy[index]),
            f"{scores.labelled_pixels[index]:,}",
        )
    return table


def confused_table(pairs: Sequence[details.ConfusedPair]) -> Table:
    """Pairs of classes that are taken for each other, the one that costs most pixels first."""
    figures = (right("of its pixels"), right("pixels", style="dim"))
    table = plain_table("most confused", "class", "taken for", *figures)
    for pair in pairs:
        table.add_row(pair.true, pair.predicted, f"{100 * pair.share:.1f} %", f"{pair.pixels:,}")
    return table


def comparison_table(figures: Mapping[str, Iterable[float | None]], *, title: str) -> Table:
    """One row a model: seen and unseen mIoU, hIoU and pixel accuracy in percent; None: there is no such figure."""
    headings = ("seen mIoU", "unseen mIoU", "hIoU", "pixel acc.")
    table = plain_table(title, Column("", no_wrap=True), *map(right, headings))
    for name, values in figures.items():
        table.add_row(name, *(MISSING if value is None else _figure(value, 1) for value in values))
    return table


def prediction_table(segmentation: segmentations.Segmentation, *, title: str) -> Table:
    """The classes of one image, the largest first: colour, share of pixels, mean score."""
    table = plain_table(title, "class", right("share"), right("mean score"))
    summary = segmentation.summary()
    for share in summary:
        table.add_row(
            swatch(segmentation.colours[share.index]).append(f" {share.name}", style="default"),
            overlay.percent(share.share),
            f"{share.mean_score:.2f}",
        )
    unassigned = 1 - sum(share.share for share in summary)
    if unassigned > 0.5 / segmentation.labels.size:
        table.add_row(Text("  no class", style="dim"), overlay.percent(unassigned), MISSING)
    return table


def prediction_line(segmentation: segmentations.Segmentation, *, title: str) -> Text:
    """One image in one line, for runs over many: its largest classes with their share and mean score."""
    found = [(share.index, share.share, f" ({share.mean_score:.2f})") for share in segmentation.summary()]
    return largest_classes(f"{title}: ", found, segmentation.classes, segmentation.colours)


def largest_classes(
    start: str, found: Sequence[tuple[int, float, str]], names: Sequence[str], colours: Sequence[palette.Colour]
) -> Text:
    """One line of the largest classes; of each its index, share and what follows, the largest first."""
    line = Text(start)
    for index, share, more in found[:MOST_CLASSES_OF_A_LINE]:
        line.append_text(swatch(colours[index])).append(f" {names[index]} {overlay.percent(share, 0)}{more}  ")
    if len(found) > MOST_CLASSES_OF_A_LINE:
        line.append(f"+ {len(found) - MOST_CLASSES_OF_A_LINE} more", style="dim")
    if not found:
        line.append("no class", style="dim")
    line.rstrip()
    return line


def swatch(colour: tuple[int, int, int]) -> Text:
    """A small square in a class's colour."""
    return Text("■", style="rgb({},{},{})".format(*colour))


def write_json(path: Path, record: Any) -> None:
    """Write a result as JSON, as `write_text` does; NaN and infinity become null."""
    ascii_only = path == STDOUT and not prints_any_character()
    write_text(path, json_text(record, ascii_only=ascii_only).rstrip("\n"))


def write_text(path: Path, text: str) -> None:
    """Write a text, without its last line's end, to a file, whole or not at all, or to stdout ("-").

    The file's folder is made where it does not exist. Raises UserError: it cannot be written.
    """
    if path == STDOUT:
        print_result(text)
        return
    content = (text + "\n").encode("utf-8", errors="backslashreplace")
    try:
        if path.exists() and (path.is_symlink() or not path.is_file()):
            path.write_bytes(content)  # to a pipe, a device, or where the link points: none is to be replaced
        else:
            write_files({path: content})
    except OSError as error:
        raise UserError(f'The result cannot be written to "{path}": {reason_of(error)}.') from error


def plain_table(title: str, *columns: Column | str) -> Table:
    """An empty table in the style of the house."""
    table = Table(*columns, title=title, title_style="bold", box=box.SIMPLE_HEAD)
    table.title_justify = table.caption_justify = "left"
    return table


def _figure(value: float, digits: int = 2, *, sign: bool = False) -> str:
    if math.isnan(value):
        return MISSING
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
