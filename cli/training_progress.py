"""What a training run shows: a live line on stderr, the scores on stdout at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cascade_clip_cli.console import stderr, stdout

if TYPE_CHECKING:
    from cascade_clip.config.schema import Recipe
    from cascade_clip.evaluation.scores import Scores
    from cascade_clip.training.loop import TrainReport

PLAIN_LINES = 20


@contextmanager
def training_progress() -> Iterator[Callable[[TrainReport], None]]:
    """Draw loss terms, learning rate, images a second, memory, time left; plain lines where stderr is no terminal."""
    columns = (
        TextColumn("train"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    live = stderr.is_terminal and not stderr.quiet
    with Progress(*columns, console=stderr, disable=not live, redirect_stdout=False) as progress:
        task = progress.add_task("train", total=None, note="")

        def watch(report: TrainReport) -> None:
            note = _line(report)
            progress.update(task, completed=report.step, total=report.steps, note=note)
            if report.validation is not None:
                stderr.print(f"step {report.step}: {_validation_line(report.validation)}", highlight=False)
            elif not live and report.step % max(1, report.steps // PLAIN_LINES) == 0:
                stderr.print(f"step {report.step}/{report.steps}  {note}", highlight=False)

        yield watch


def show_training_result(
    scores: Scores | None, recipe: Recipe, split: str, folder: Path, json_file: Path | None
) -> None:
    """Print the table of the last validation and where the model lies; write it as JSON where wanted."""
    from cascade_clip_cli.tables import write_json

    if scores is not None:
        from cascade_clip_cli.tables import scores_table

        stdout.print(
            scores_table(scores, recipe.paper, split, title=f"{recipe.name} after {recipe.train.iterations} steps")
        )
    stdout.print(f"Model: {folder / 'model'}", highlight=False)
    if json_file is not None:
        result = {"model": str(folder / "model"), "split": split, "scores": scores.to_dict() if scores else None}
        write_json(json_file, json.loads(json.dumps(result)))


def _line(report: TrainReport) -> str:
    memory = f"  {report.memory:.0f} MiB" if report.memory else ""
    return (
        f"loss {report.loss:.3f} (focal {report.focal:.3f}, {report.region_loss} {report.region:.3f})"
        f"  lr {report.lr:.2e}  {report.images_per_second:.1f} img/s{memory}"
    )


def _validation_line(scores: Scores) -> str:
    parts = [f"mIoU {100 * scores.miou:.1f}"]
    if scores.unseen:
        parts += [
            f"seen {100 * scores.miou_seen:.1f}",
            f"unseen {100 * scores.miou_unseen:.1f}",
            f"hIoU {100 * scores.hiou:.1f}",
        ]
    return "  ".join([*parts, f"pixel accuracy {100 * scores.pixel_accuracy:.1f}"])
