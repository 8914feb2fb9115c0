"""What came of a table: figures of every run, mean and spread over seeds, the paper's beside them."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_clip.reproduce.plan import RowPlan, TablePlan
from cascade_clip.reproduce.runner import Failure
from cascade_clip.reproduce.runs import FIGURES, Run

Figures = dict[str, float | None]


@dataclass(frozen=True)
class RunResult:
    """One run of a row.

    Attributes:
        seed: Its seed.
        run: The run.
        figures: `FIGURES` in percent; none where it is not finished.
        error: Why it failed; none where it did not.
    """

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
        """Its run folder as seen from the table's."""
        return Path(os.path.relpath(self.run.folder, base)).as_posix()


@dataclass(frozen=True)
class RowResult:
    """One row.

    Attributes:
        plan: The row and its runs.
        runs: What came of them.
        mean: Mean over finished seeds, in percent; none before the first, or where a figure does not exist.
        deviation: Sample standard deviation over them; none for a single one.
    """

    plan: RowPlan
    runs: tuple[RunResult, ...]
    mean: Figures
    deviation: Figures

    @property
    def quoted(self) -> bool:
        """Whether the figures are those of another paper's system."""
        return self.plan.row.mode is None

    @property
    def notes(self) -> list[str]:
        """What must be known to read the row."""
        if self.quoted:
            return ["quoted"]
        if self.plan.reason is not None:
            return [self.plan.reason]
        finished = sum(result.figures is not None for result in self.runs)
        notes = [f"{finished} of {len(self.runs)} seeds"] if finished < len(self.runs) else []
        if self.plan.row.mode == "training-free":
            notes.append("not trained")
        return notes + [
            f"seed {result.seed} failed: {_first_line(result.error)}" for result in self.runs if result.error
        ]


@dataclass(frozen=True)
class TableResult:
    """One table.

    Attributes:
        plan: The table and what had to run.
        rows: Its rows in order.
    """

    plan: TablePlan
    rows: tuple[RowResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it; figures in percent, null where there are none."""
        return {
            "table": self.plan.table.name,
            "title": self.plan.table.title,
            "split": self.plan.split,
            "paper": self.plan.table.paper,
            "rows": [_row_to_dict(row, self.plan.folder) for row in self.rows],
        }


def collect(plan: TablePlan, failures: Mapping[Path, Failure]) -> TableResult:
    """Read what lies in the run folders of a table.

    Args:
        plan: The table.
        failures: Of runs that failed just now, by folder.

    Raises:
        UserError: Files in a run folder that cannot be read.
    """
    return TableResult(plan, tuple(_row_result(row, failures) for row in plan.rows))


def mean_and_deviation(values: list[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (n - 1); none of what the number of values does not give."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def _row_result(plan: RowPlan, failures: Mapping[Path, Failure]) -> RowResult:
    runs = []
    for seed, run in plan.runs:
        figures = run.figures()
        failure = failures.get(run.folder) if figures is None else None
        runs.append(RunResult(seed, run, figures, failure.message if failure else None))
    finished = [result.figures for result in runs if result.figures is not None]
    spread = {}
    for name in FIGURES:
        values = [value for figures in finished if (value := figures[name]) is not None]
        spread[name] = mean_and_deviation(values)
    mean = {name: pair[0] for name, pair in spread.items()}
    return RowResult(plan, tuple(runs), mean, {name: pair[1] for name, pair in spread.items()})


def _row_to_dict(result: RowResult, folder: Path) -> dict[str, Any]:
    row = result.plan.row
    return {
        "name": row.name,
        "section": row.section,
        "mode": row.mode,
        "quoted": result.quoted,
        "paper": row.figures,
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


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
