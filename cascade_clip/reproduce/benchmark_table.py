"""Training-free methods on several benchmarks: one row a method, with published figures below."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cascade_clip.evaluation.published_training_free import PublishedMethod, published_table, sources_of
from cascade_clip.reproduce.results import RowResult, TableResult, markdown_table

MISSING = "–"


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
        names: Mapping[str, str] = published_table().benchmarks
        return names.get(result.plan.split, result.plan.split)


def _miou(row: RowResult) -> float | None:
    return row.runs[0].run.miou() if row.runs else None


def _row(name: str, figures: Sequence[float | None], average: float | None) -> list[str]:
    """Cells of a row; its average is that of all figures, or a published one of all benchmarks."""
    known = [figure for figure in figures if figure is not None]
    if average is None or len(figures) < len(published_table().benchmarks):
        average = statistics.fmean(known) if len(known) == len(figures) else None
    return [name, *(MISSING if figure is None else f"{figure:.1f}" for figure in (*figures, average))]
