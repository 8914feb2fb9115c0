"""What `cascade-clip reproduce` shows: progress while it runs, results beside the paper's figures, and plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from cascade_clip.reproduce import results, runner, runs
from cascade_clip.training import run_folder
from cascade_clip_cli.console import stderr


@contextmanager
def reproduction_progress() -> Iterator[Callable[[runner.RunsState], None]]:
    """Draw a bar for all runs and for each under way; print a line when a run starts or ends."""
    title, note = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[note]}")
    columns = (title, BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), note)
    live = stderr.is_terminal and not stderr.quiet
    with Progress(*columns, console=stderr, disable=not live, redirect_stdout=False) as bars:
        everything = bars.add_task("runs", total=None, note="")
        drawn: dict[Path, tuple[TaskID, str]] = {}

        def watch(state: runner.RunsState) -> None:
            ended = state.done + len(state.failures)
            bars.update(everything, completed=ended, total=state.total)
            for run in state.active:
                if run.folder not in drawn:
                    drawn[run.folder] = bars.add_task(run.title, total=run.steps or None, note=""), run.title
                    _say(f"{run.title}: {run.folder}")
                if live:
                    step, note = _position(run)
                    bars.update(drawn[run.folder][0], completed=step, note=note)
            for folder in drawn.keys() - {run.folder for run in state.active}:
                task, title = drawn.pop(folder)
                bars.remove_task(task)
                _say(f"{title}: {'failed' if folder in state.failures else 'finished'} ({ended}/{state.total})")

        yield watch


def result_table(result: results.TableResult) -> Table:
    """Mean and deviation of every row, beside the paper's figures where it has some."""
    headings, rows = result.cells()
    table = _table(result, result.caption)
    for number, heading in enumerate(headings):
        notes = number > len(runs.FIGURES) and not heading
        table.add_column(
            heading, justify="right" if heading else "left", no_wrap=not notes, style="dim" if notes else None
        )
    for row in rows:
        cells = [escape(cell) for cell in row]
        table.add_row(*(cells if len(cells) > 1 else [f"[italic]{cells[0]}"]))
    return table


def plan_table(result: results.TableResult) -> Table:
    """Every run of a table: how many steps it takes and how far it is."""
    waiting = {run.run.folder: run.run for row in result.rows for run in row.runs if run.figures is None}
    steps = sum(run.steps - run.resumes_at for run in waiting.values())
    table = _table(result, f"{len(waiting)} runs to do, {steps:,} training steps, in {result.plan.folder}")
    table.add_column("")
    table.add_column("mode", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for row in result.rows:
        planned = row.plan.row
        name = escape(" ".join(part for part in ((planned.section or "").replace("_", " "), planned.shown) if part))
        if not row.runs:
            table.add_row(name, "–" if planned.quoted else planned.mode, "–", "; ".join(row.notes))
        for run in row.runs:
            count = f"{run.run.steps:,}" if run.run.steps else "–"
            state = run.status
            if state == "interrupted":
                state += f", resumes at step {run.run.resumes_at:,}"
            folder = run.folder(result.plan.folder)
            if folder != f"{planned.short}/seed{run.seed}":
                state += f", shared: {folder}"
            table.add_row(f"{name}, seed {run.seed}", planned.mode, count, escape(state))
    return table


def _say(line: str) -> None:
    stderr.print(line, markup=False, highlight=False, soft_wrap=True)


def _position(run: runs.Run) -> tuple[int, str]:
    """Steps done and the loss, from the newest line of the run's metrics."""
    entries = reversed(run_folder.RunFolder(run.folder).log_entries())
    newest = next((entry for entry in entries if "loss" in entry), None)
    if newest is None:
        return 0, ""
    return newest["step"], f"loss {newest['loss']:.3f}  {newest['images_per_s']:.1f} img/s"


def _table(result: results.TableResult, caption: str) -> Table:
    title = escape(f"{result.plan.table.name} on {result.plan.split}: {result.plan.table.title}")
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.caption, table.caption_justify = escape(caption), "left"
    return table
