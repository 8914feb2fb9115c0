"""What `cascade-clip reproduce` prints: results beside the paper's, and plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    from cascade_clip.reproduce.plan import RowPlan, TablePlan
    from cascade_clip.reproduce.results import RunResult, TableResult


def result_table(result: TableResult) -> Table:
    """Mean and spread of every row, the paper's figures beside them where it has some."""
    from cascade_clip.reproduce.render import HEADINGS, caption, text_rows
    from cascade_clip.reproduce.runs import FIGURES

    rows = text_rows(result)
    with_paper, with_notes = any(row.paper for row in rows), any(row.notes for row in rows)
    table = _table(result)
    table.add_column("", no_wrap=True)
    for name in FIGURES:
        table.add_column(HEADINGS[name], justify="right", no_wrap=True)
    if with_paper:
        table.add_column("paper: seen / unseen / hIoU", justify="right", no_wrap=True)
    if with_notes:
        table.add_column("", style="dim")
    section = None
    for row in rows:
        if row.section != section:
            section = row.section
            table.add_row(f"[italic]{escape((section or '').replace('_', ' '))}")
        more = [row.paper] if with_paper else []
        more += [escape(row.notes)] if with_notes else []
        table.add_row(escape(row.name), *row.here, *more)
    table.caption = caption(result)
    return table


def plan_table(result: TableResult) -> Table:
    """Every run of a table: how many steps it takes and how far it is."""
    table = _table(result)
    table.add_column("")
    table.add_column("mode", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    waiting: dict[Path, int] = {}
    for row in result.rows:
        planned = row.plan.row
        name = escape(" ".join(part for part in ((planned.section or "").replace("_", " "), planned.name) if part))
        if not row.runs:
            table.add_row(name, planned.mode or "–", "–", "; ".join(row.notes))
        for run in row.runs:
            steps = f"{run.run.steps:,}" if run.run.steps else "–"
            table.add_row(f"{name}, seed {run.seed}", planned.mode, steps, escape(_state(run, row.plan, result.plan)))
            if run.figures is None:
                waiting[run.run.folder] = run.run.steps - run.run.resumes_at
    todo = f"{len(waiting)} runs to do, {sum(waiting.values()):,} training steps"
    table.caption = escape(f"{todo}, in {result.plan.folder}")
    return table


def _state(run: RunResult, row: RowPlan, table: TablePlan) -> str:
    state = run.status
    if state == "interrupted":
        state += f", resumes at step {run.run.resumes_at:,}"
    folder = run.folder(table.folder)
    return state if folder == f"{row.row.short}/seed{run.seed}" else f"{state}, shared: {folder}"


def _table(result: TableResult) -> Table:
    title = escape(f"{result.plan.table.name} on {result.plan.split}: {result.plan.table.title}")
    return Table(title=title, title_justify="left", title_style="bold", caption_justify="left", box=box.SIMPLE_HEAD)
