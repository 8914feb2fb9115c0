"""Results of a table: figures of every run, mean and deviation over seeds, the paper's figures; JSON and Markdown."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_clip.evaluation.published import what_is_compared
from cascade_clip.reproduce.plan import PlannedRow, TablePlan
from cascade_clip.reproduce.runner import Failure
from cascade_clip.reproduce.runs import FIGURES, Figures, Run

_HEADINGS = {"miou_seen": "seen mIoU", "miou_unseen": "unseen mIoU", "hiou": "hIoU", "pixel_accuracy": "pixel acc."}


@dataclass(frozen=True)
class RunResult:
    """One run of a row: `figures` are `FIGURES` in percent, None until it is finished; `error` is why it failed."""

    seed: int
    run: Run
    figures: Figures | None
    error: str | None

    @property
    def status(self) -> str:
        """`finished`, `failed`, `interrupted` or `to run`."""
        if self.figures is not None:
            return "finished"
        if self.error is not None:
            return "failed"
        return "interrupted" if self.run.started else "to run"

    def folder(self, base: Path) -> str:
        """Its run folder relative to the table's."""
        return Path(os.path.relpath(self.run.folder, base)).as_posix()


@dataclass(frozen=True)
class RowResult:
    """One row and the results of its runs."""

    plan: PlannedRow
    runs: tuple[RunResult, ...]
    mean: Figures
    """Mean over finished seeds, in percent; None: no seed has finished, or the figure does not exist."""
    deviation: Figures
    """Sample standard deviation over them (n - 1); None: fewer than two."""

    @property
    def notes(self) -> list[str]:
        """What must be known to read the row."""
        if self.plan.row.quoted:
            return ["quoted"]
        if self.plan.reason is not None:
            return [self.plan.reason]
        finished = sum(result.figures is not None for result in self.runs)
        notes = [f"{finished} of {len(self.runs)} seeds"] if finished < len(self.runs) else []
        notes += ["not trained"] if self.plan.row.mode == "training-free" else []
        return notes + [
            f"seed {result.seed} failed: {result.error.partition(chr(10))[0]}" for result in self.runs if result.error
        ]


@dataclass(frozen=True)
class TableResult:
    """One table and the results of its rows, in order."""

    plan: TablePlan
    rows: tuple[RowResult, ...]

    @property
    def caption(self) -> str:
        """What the figures are, in one sentence."""
        seeds = max((len(row.runs) for row in self.rows), default=0)
        over = f"mean ± sample standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
        steps = sorted({run.run.steps for row in self.rows for run in row.runs if run.run.steps})
        trained = f"; {' or '.join(f'{count:,}' for count in steps)} training steps" if steps else ""
        return f"Percent; {over}{trained}.{self.compared}"

    @property
    def compared(self) -> str:
        """Which figures of the paper stand beside, or why none does; empty for a table that names none."""
        table, rows = self.plan.table, self.rows
        if not table.paper or not any(row.plan.row.paper for row in rows):
            return ""
        found = any(row.plan.figures for row in rows)
        return f" {what_is_compared(table.paper, self.plan.split, found=found)}"

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """The table as text: headings, and a list of cells for each row.

        A section of the table begins with a row of one cell. Figures read "41.1 ± 0.3" over seeds, "41.1" for a single
        one and "–" where there is none. Columns of the paper's figures and of notes are left out where all are empty.
        """
        rows = [_row_cells(row) for row in self.rows]
        headings = ["", *(_HEADINGS[name] for name in FIGURES), "paper: seen / unseen / hIoU", ""]
        kept = [i for i in range(len(headings)) if i <= len(FIGURES) or any(row[i] for row in rows)]
        lines: list[list[str]] = []
        section = None
        for row, cells in zip(self.rows, rows, strict=True):
            if row.plan.row.section != section:
                section = row.plan.row.section
                lines.append([(section or "").replace("_", " ")])
            lines.append([cells[i] for i in kept])
        return [headings[i] for i in kept], lines

    def to_markdown(self) -> str:
        """The table as Markdown, below a heading and the caption."""
        headings, rows = self.cells()
        lines = [f"### {self.plan.table.title} ({self.plan.split})", "", self.caption, ""]
        filled = [row if len(row) > 1 else [f"*{row[0]}*", *[""] * (len(headings) - 1)] for row in rows]
        return "\n".join([*lines, *markdown_table(headings, filled, numbers=len(FIGURES))])

    def to_dict(self) -> dict[str, Any]:
        """The table as it is written to JSON; figures in percent, null where there are none."""
        return {
            "table": self.plan.table.name,
            "title": self.plan.table.title,
            "split": self.plan.split,
            "paper": self.plan.table.paper,
            "rows": [_row_to_dict(row, self.plan.folder) for row in self.rows],
        }


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int) -> list[str]:
    """The lines of a table in Markdown; so many columns after the first hold numbers."""
    rule = ["---", *["---:"] * numbers, *["---"] * (len(headings) - 1 - numbers)]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in (headings, rule, *rows)]


def collect(plan: TablePlan, failures: Mapping[Path, Failure]) -> TableResult:
    """Read the results in the run folders of a table; `failures` are the runs that have just failed, by folder.

    Raises UserError: a file in a run folder cannot be read.
    """
    return TableResult(plan, tuple(_row_result(row, failures) for row in plan.rows))


def _row_result(plan: PlannedRow, failures: Mapping[Path, Failure]) -> RowResult:
    runs = []
    for seed, run in plan.runs:
        figures = run.figures()
        failure = failures.get(run.folder) if figures is None else None
        runs.append(RunResult(seed, run, figures, failure.message if failure else None))
    finished = [result.figures for result in runs if result.figures is not None]
    values = {name: [v for figures in finished if (v := figures[name]) is not None] for name in FIGURES}
    mean = {name: statistics.fmean(found) if found else None for name, found in values.items()}
    deviation = {name: statistics.stdev(found) if len(found) > 1 else None for name, found in values.items()}
    return RowResult(plan, tuple(runs), mean, deviation)


def _row_cells(result: RowResult) -> list[str]:
    paper = result.plan.figures or {}
    published = " / ".join(f"{paper[name]:.1f}" for name in FIGURES if name in paper)
    figures = [_with_deviation(result.mean[name], result.deviation[name]) for name in FIGURES]
    return [result.plan.row.shown, *figures, published, "; ".join(result.notes)]


def _with_deviation(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def _row_to_dict(result: RowResult, folder: Path) -> dict[str, Any]:
    row = result.plan.row
    return {
        "name": row.shown,
        "section": row.section,
        "model": row.model,
        "mode": None if row.quoted else row.mode,
        "quoted": row.quoted,
        "paper": result.plan.figures,
        "published": [entry.model_dump(mode="json") for entry in result.plan.published],
        "miou": result.runs[0].run.miou() if result.runs else None,
        "mean": result.mean if result.runs else None,
        "standard_deviation": result.deviation if result.runs else None,
        "notes": result.notes,
        "runs": [
            {
                "seed": run.seed,
                "status": run.status,
                "folder": run.folder(folder),
                "steps": run.run.steps,
                "figures": run.figures,
                "error": run.error,
            }
            for run in result.runs
        ],
    }
