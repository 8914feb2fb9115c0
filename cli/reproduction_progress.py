"""What `cascade-clip reproduce` shows while it runs: a bar for each run under way, a line for each that ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cascade_clip_cli.console import stderr

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import TaskID

    from cascade_clip.reproduce import runner
    from cascade_clip.reproduce.runs import Run


@contextmanager
def reproduction_progress() -> Iterator[Callable[[runner.Progress], None]]:
    """Draw all runs and those under way; plain lines where stderr is no terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    live = stderr.is_terminal and not stderr.quiet
    with Progress(*columns, console=stderr, disable=not live, redirect_stdout=False) as bars:
        everything = bars.add_task("runs", total=None, note="")
        tasks: dict[Path, TaskID] = {}
        titles: dict[Path, str] = {}

        def watch(progress: runner.Progress) -> None:
            bars.update(everything, completed=progress.done + len(progress.failures), total=progress.total)
            for run in progress.active:
                if run.folder not in tasks:
                    tasks[run.folder] = bars.add_task(run.title, total=run.steps or None, note="")
                    titles[run.folder] = run.title
                    stderr.print(f"{run.title}: {run.folder}", markup=False, highlight=False, soft_wrap=True)
                if live:
                    step, note = _position(run)
                    bars.update(tasks[run.folder], completed=step, note=note)
            for folder in tasks.keys() - {run.folder for run in progress.active}:
                bars.remove_task(tasks.pop(folder))
                ended = "failed" if folder in progress.failures else "finished"
                stderr.print(
                    f"{titles[folder]}: {ended} ({progress.done + len(progress.failures)}/{progress.total})",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )

        yield watch


def _position(run: Run) -> tuple[int, str]:
    """Steps done and the loss, from the newest line of the run's metrics."""
    from cascade_clip.reproduce.runs import log_entries

    newest = next((entry for entry in reversed(log_entries(run)) if "loss" in entry), None)
    if newest is None:
        return 0, ""
    return newest["step"], f"loss {newest['loss']:.3f}  {newest['images_per_s']:.1f} img/s"
