"""What has to run for tables: a run a row and seed, equal runs once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cascade_clip.config.recipes import load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.config.self_training import self_training_recipe
from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.reproduce.runs import Run, settings_of
from cascade_clip.reproduce.table_file import Mode, PlannedRow, Table, table_rows


@dataclass(frozen=True)
class RowPlan:
    """A row with its runs.

    Attributes:
        row: The row.
        runs: Seed and run of each; none for quoted rows and those that cannot be run.
        reason: Why it is not run; none where it is, and for quoted rows.
    """

    row: PlannedRow
    runs: tuple[tuple[int, Run], ...]
    reason: str | None = None


@dataclass(frozen=True)
class TablePlan:
    """A table on one split.

    Attributes:
        table: The table.
        split: Name of the split.
        folder: `OUTPUT/TABLE-SPLIT`.
        rows: Its rows in order.
    """

    table: Table
    split: str
    folder: Path
    rows: tuple[RowPlan, ...]

    @property
    def runs(self) -> list[Run]:
        """All runs of the table and those that they start from, each once, in the order in which they can be done."""
        wanted = [run for row in self.rows for _, run in row.runs]
        return list({run.folder: run for run in [*(run.init for run in wanted if run.init), *wanted]}.values())


def plan_tables(
    tables: Sequence[Table],
    split: str,
    *,
    seeds: int,
    output: Path,
    data: str | None = None,
    overrides: Sequence[str] = (),
) -> list[TablePlan]:
    """Give every row and seed its folder, or the folder under `output` in which an equal run lies already.

    Args:
        tables: The tables.
        split: What all of them are scored on, by name or as a file.
        seeds: Runs of each row, with seeds 0, 1, ...; a training-free model is scored once.
        output: Folder that holds `TABLE-SPLIT/ROW/seedN`.
        data: Prepared dataset; unset: where the recipes say.
        overrides: `section.key=value` each, on top of every row.

    Raises:
        UserError: A table that is for another dataset, rows that cannot be read, or folders that hold other runs.
    """
    planner = _Planner(split, output, data, tuple(overrides))
    plans = [planner.plan(table, seeds) for table in tables]
    if planner.problems:
        raise UserError("\n".join(planner.problems))
    return plans


class _Planner:
    def __init__(self, split: str, output: Path, data: str | None, overrides: tuple[str, ...]) -> None:
        self.split, self.output, self.data = split, output, data
        self.overrides = (*overrides, f"data.dataset={json.dumps(data)}") if data is not None else overrides
        self.known: dict[str, Run] = {}
        self.scored = get_split(split)
        self.lying = _runs_under(output, self.scored.name)
        self.problems: list[str] = []

    def plan(self, table: Table, seeds: int) -> TablePlan:
        split = self.scored
        if table.dataset is not None and table.dataset != split.dataset:
            raise UserError(
                f'The table "{table.name}" is for the dataset "{table.dataset}", and the split "{split.name}" belongs'
                f' to "{split.dataset}": choose another --split.'
            )
        folder = self.output / f"{table.name}-{split.name}"
        by_seed = [table_rows(table, self.split, seed=seed, overrides=self.overrides) for seed in range(seeds)]
        rows = tuple(self._row(folder, rows) for rows in zip(*by_seed, strict=True))
        return TablePlan(table, split.name, folder, rows)

    def _row(self, folder: Path, rows: Sequence[PlannedRow]) -> RowPlan:
        """Plan one row, given with each seed."""
        row, mode = rows[0], rows[0].mode
        if mode is None:
            return RowPlan(row, ())
        if mode == "transductive" and not self.scored.unseen:
            return RowPlan(row, (), f'not run: "{self.scored.name}" has no unseen classes to guess')
        if mode == "training-free":
            rows = rows[:1]
        return RowPlan(row, tuple((seed, self._run(folder, row, mode, seed)) for seed, row in enumerate(rows)))

    def _run(self, folder: Path, row: PlannedRow, mode: Mode, seed: int) -> Run:
        title = " ".join(part for part in (row.section, row.name) if part) + f", seed {seed}"
        own = folder / row.short / f"seed{seed}"
        run = Run(title, own, mode, row.recipe, row.model, self.split, self.data)
        return self._placed(run if mode != "transductive" or row.recipe is None else self._after(run, row.recipe))

    def _after(self, run: Run, recipe: Recipe) -> Run:
        """The self-training that follows the inductive run of a recipe."""
        inductive = replace(
            run,
            title=f"{run.title}, inductive",
            folder=run.folder.with_name(f"{run.folder.name}-init"),
            mode="inductive",
            recipe=recipe.model_copy(update={"self_training": None}),
        )
        derived = self_training_recipe(recipe, recipe.self_training)
        return replace(run, recipe=derived, init=self._placed(inductive))

    def _placed(self, run: Run) -> Run:
        """The equal run that is planned or lies there already; else this one."""
        if run.key in self.known:
            return self.known[run.key]
        lying = self.lying.get(settings_of(run.recipe)) if run.mode in {"inductive", "supervised"} else None
        if lying is not None and not run.started:
            run = replace(run, folder=lying)
        try:
            run.check()
        except UserError as error:
            self.problems.append(str(error))
        self.known[run.key] = run
        return run


def _runs_under(output: Path, split: str) -> dict[str, Path]:
    """Folders of all trained runs for a split by their settings; finished ones go first."""
    found: dict[str, Path] = {}
    files = output.glob(f"*-{split}/*/seed*/recipe.toml")
    for file in sorted(files, key=lambda file: (not (file.parent / "model" / "config.json").exists(), file)):
        try:
            found.setdefault(settings_of(load_recipe(str(file), stored=True)), file.parent)
        except UserError:
            # A run of another version equals none of this one's; where a row has that folder, it says so.
            continue
    return found
