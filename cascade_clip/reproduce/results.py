"""Results of a table: figures of every run, mean and deviation over seeds, the paper's figures; JSON and Markdown."""

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cascade_clip.evaluation.published import what_is_compared
from cascade_clip.evaluation.published_training_free import PublishedMethod, published_table, sources_of
from cascade_clip.reproduce.plan import PlannedRow, TablePlan
from cascade_clip.reproduce.runner import Failure
from cascade_clip.reproduce.runs import FIGURES, Figures, Run

MISSING = "–"
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
        return MISSING
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


@dataclass(frozen=True)
class BenchmarkTable:
    """The results of one table on several splits, in mIoU percent."""

    results: tuple[TableResult, ...]
    """One a split, in the order of the columns."""

    @property
    def title(self) -> str:
        """Name and title of the table."""
        table = self.results[0].plan.table
        return f"{table.name}: {table.title}"

    @property
    def caption(self) -> str:
        """What the figures are, where the published ones are from, and why others are missing."""
        models = (row.plan.row.model or "" for result in self.results for row in result.rows)
        clips = dict.fromkeys(model.removeprefix("dense:").partition("?")[0] for model in models)
        said = [f"mIoU in percent. CLIP: {', '.join(clips)}."]
        if sources := sources_of([entry for entries in self._published for entry in entries]):
            said += [f"Published: {published_table().note}", *sources]
        return "\n".join([*said, *self.reasons])

    @property
    def reasons(self) -> list[str]:
        """Why figures are missing: a sentence for each split, or for each method and split."""
        found: list[str] = []
        for result in self.results:
            notes = {row.plan.row.shown: row.plan.reason for row in result.rows if row.plan.reason}
            if len(set(notes.values())) == 1 and len(notes) == len(result.rows):
                found.append(f"{self._heading(result)}: {next(iter(notes.values()))}")
                continue
            notes |= {row.plan.row.shown: run.error for row in result.rows for run in row.runs if run.error}
            found += [f"{name}, {self._heading(result)}: {reason}" for name, reason in notes.items()]
        return found

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings, and the cells of each row: measured figures of a method, below it the published ones."""
        headings = ["", *map(self._heading, self.results)]
        rows: list[list[str]] = []
        for number, published in enumerate(self._published):
            measured = [_miou(result.rows[number]) for result in self.results]
            rows.append(_row(self.results[0].rows[number].plan.row.shown, measured, None))
            for entry in published:
                figures = [entry.miou.get(result.plan.split) for result in self.results]
                rows.append(_row(f"  published: {entry.shown}", figures, entry.average))
        if len(self.results) > 1:
            headings.append("average")
        else:
            rows = [row[:-1] for row in rows]
        return headings, rows

    def to_markdown(self) -> str:
        """The table as Markdown, below a heading and above the caption."""
        headings, rows = self.cells()
        lines = [f"### {self.title}", "", *markdown_table(headings, rows, numbers=len(headings) - 1), ""]
        return "\n".join([*lines, *(f"{line}  " for line in self.caption.splitlines())])

    @cached_property
    def _published(self) -> list[list[PublishedMethod]]:
        """Of each row, the published figures for any of the splits."""
        splits = {result.plan.split for result in self.results}
        found: list[list[PublishedMethod]] = []
        for rows in zip(*(result.rows for result in self.results), strict=True):
            entries = [entry for row in rows for entry in row.plan.published if splits & entry.miou.keys()]
            found.append([entry for number, entry in enumerate(entries) if entry not in entries[:number]])
        return found

    @staticmethod
    def _heading(result: TableResult) -> str:
        return published_table().benchmarks.get(result.plan.split, result.plan.split)


def _miou(row: RowResult) -> float | None:
    return row.runs[0].run.miou() if row.runs else None


def _row(name: str, figures: Sequence[float | None], average: float | None) -> list[str]:
    """Cells of a row; its average is that of all figures, or a published one of all benchmarks."""
    known = [figure for figure in figures if figure is not None]
    if average is None or len(figures) < len(published_table().benchmarks):
        average = statistics.fmean(known) if len(known) == len(figures) else None
    return [name, *(MISSING if figure is None else f"{figure:.1f}" for figure in (*figures, average))]
