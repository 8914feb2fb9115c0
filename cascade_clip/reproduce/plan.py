"""The runs of a table on a split: one for each row and seed, equal runs only once."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cascade_clip.config.dataset_address import is_address
from cascade_clip.config.recipes import load_recipe, recipe_names
from cascade_clip.config.schema import PaperFigure, Recipe
from cascade_clip.data.catalogue import get_split, split_names
from cascade_clip.data.dataset_location import locate_dataset
from cascade_clip.errors import UserError
from cascade_clip.evaluation.published_training_free import PublishedMethod, published_methods
from cascade_clip.model.clip.load import blocks_of, split_clip_name
from cascade_clip.model.dense import DEFAULT_WEIGHTS
from cascade_clip.model.stages import with_stages
from cascade_clip.reproduce.runs import Run, settings_of
from cascade_clip.reproduce.table_file import BASE, Table, TableRow
from cascade_clip.training.run_training import self_training_recipe

_CLIP, _CLIP_KEYS = "{clip}", "clip."
_METHOD = re.compile(r"dense:(?P<clip>.+)\?method=(?P<method>[\w-]+)")


@dataclass(frozen=True)
class PlannedRow:
    """A row on one split.

    Attributes:
        row: The row as in the table.
        recipe: What is trained; None: the row is quoted or training-free. A transductive row's is that of the inductive
            run from which it starts, with the keys `self_training`; a supervised row trains on another split.
        figures: `miou_seen`, `miou_unseen`, `hiou` of the paper in percent; None: it has none for this split.
        runs: Seed and run of each; empty for quoted rows and those that cannot be run.
        reason: Why it cannot be run; None: it can, or it is quoted.
        published: Published figures of a training-free method with this CLIP, on whichever benchmarks.
    """

    row: TableRow
    recipe: Recipe | None
    figures: dict[str, float] | None
    runs: tuple[tuple[int, Run], ...] = ()
    reason: str | None = None
    published: tuple[PublishedMethod, ...] = ()


@dataclass(frozen=True)
class TablePlan:
    """A table on the split of this name, in the folder `OUTPUT/TABLE-SPLIT`; `rows` as from `table_rows`."""

    table: Table
    split: str
    folder: Path
    rows: tuple[PlannedRow, ...]

    @property
    def runs(self) -> list[Run]:
        """All runs of the table, after those that they start from, each once."""
        wanted = [run for row in self.rows for _, run in row.runs]
        return list({run.folder: run for run in [*(run.init for run in wanted if run.init), *wanted]}.values())


def table_rows(table: Table, split: str, *, seed: int = 0, overrides: Sequence[str] = ()) -> list[PlannedRow]:
    """Make the recipe of every row for one split, a name or a TOML file; supervised rows train on all its classes.

    Rows with the same settings, also of other tables, have recipes that differ only in `name` and `paper`. Overrides
    are `section.key=value` each, on top of every row, as for `load_recipe`. Gives the rows in order, without quoted
    ones that have no figure for the split; none of them has runs yet.

    Raises UserError: an unknown split or recipe, or invalid keys or values (those of all rows in one message).
    """
    get_split(split)
    planned: list[PlannedRow] = []
    problems: list[str] = []
    for row in table.rows:
        figures = table.figures(row, split)
        try:
            recipe = None if row.quoted or row.model else _recipe(table, row, split, seed, overrides)
        except UserError as error:
            problems.append(f'Row "{row.shown}" of {table.name}: {error}')
            continue
        if row.model is not None:
            planned.append(_training_free_row(row, figures, split, overrides))
        elif figures is not None or not row.quoted:
            planned.append(PlannedRow(row, recipe, figures))
    if problems:
        raise UserError("\n".join(problems))
    return planned


def plan_tables(
    tables: Sequence[Table],
    split: str,
    *,
    seeds: int,
    output: Path,
    data: str | None = None,
    overrides: Sequence[str] = (),
) -> list[TablePlan]:
    """Give every row and seed a folder: its own, or that of an equal run which is planned or is under `output`.

    All tables are scored on the split, a name or a TOML file. Each row runs with seeds 0, 1, ..., a training-free model
    once, in `output`/TABLE-SPLIT/ROW/seedN, on the dataset `data` (None: where the recipes say), with
    `section.key=value` overrides on top.

    Raises UserError: a table is for another dataset, rows cannot be read, or folders hold other runs.
    """
    planner = _Planner(split, output, data, overrides)
    plans = [planner.plan(table, seeds) for table in tables]
    if planner.problems:
        raise UserError("\n".join(planner.problems))
    return plans


class _Planner:
    def __init__(self, split: str, output: Path, data: str | None, overrides: Sequence[str]) -> None:
        self.split, self.output, self.data = split, output, data
        self.given = overrides
        self.overrides = [*overrides, *([f"data.dataset={json.dumps(data)}"] if data is not None else [])]
        self.scored = get_split(split)
        self.known: dict[str, Run] = {}
        self.existing = _runs_under(output, self.scored.name)
        self.problems: list[str] = []
        self.missing: str | None = None
        """Why no row of the table can be run."""

    def plan(self, table: Table, seeds: int) -> TablePlan:
        split = self.scored
        if table.dataset not in {None, split.dataset}:
            raise UserError(
                f'The table "{table.name}" is for the dataset "{table.dataset}", and the split "{split.name}" belongs'
                f' to "{split.dataset}": choose another --split.'
            )
        unused = [key for key in self.given if table.training_free and not key.startswith(_CLIP_KEYS)]
        if unused:
            raise UserError(
                f'The table "{table.name}" trains nothing, so that {", ".join(unused)} would change nothing: of a'
                " recipe's keys, only those of the section clip can be set."
            )
        folder = self.output / f"{table.name}-{split.name}"
        self.missing = self._missing_data() if table.training_free else None
        by_seed = [table_rows(table, self.split, seed=seed, overrides=self.overrides) for seed in range(seeds)]
        return TablePlan(table, split.name, folder, tuple(self._row(folder, row) for row in zip(*by_seed, strict=True)))

    def _row(self, folder: Path, seeded: Sequence[PlannedRow]) -> PlannedRow:
        """Plan the runs of a row, given with each seed."""
        planned, row = seeded[0], seeded[0].row
        if row.quoted:
            return planned
        if row.mode == "transductive" and not self.scored.unseen:
            return replace(planned, reason=f'not run: "{self.scored.name}" has no unseen classes to guess')
        if self.missing is not None:
            return replace(planned, reason=self.missing)
        recipes = [None] if row.mode == "training-free" else [each.recipe for each in seeded]
        runs = (self._run(folder, row, recipe, seed) for seed, recipe in enumerate(recipes))
        return replace(planned, runs=tuple(enumerate(runs)))

    def _run(self, folder: Path, row: TableRow, recipe: Recipe | None, seed: int) -> Run:
        title = " ".join(part for part in (row.section, row.shown) if part) + f", seed {seed}"
        own_folder = folder / row.short / f"seed{seed}"
        run = Run(title, own_folder, row.mode, recipe, row.model, self.split, self.data, refine=row.refine)
        if row.mode != "transductive" or recipe is None:
            return self._placed(run)
        start = recipe.changed(self_training=None)
        own_folder = run.folder.with_name(f"{run.folder.name}-init")
        inductive = replace(run, title=f"{title}, inductive", folder=own_folder, mode="inductive", recipe=start)
        derived = self_training_recipe(recipe, recipe.self_training)
        return self._placed(replace(run, recipe=derived, init=self._placed(inductive)))

    def _missing_data(self) -> str | None:
        """What to do where the prepared dataset is not on this machine; None: it is, or `data` is an address."""
        try:
            if not is_address(self.data or ""):
                locate_dataset(self.scored.dataset, self.data, class_names=self.scored.class_names)
        except UserError as error:
            return str(error)
        return None

    def _placed(self, run: Run) -> Run:
        """An equal run that is planned or exists already; otherwise this one."""
        if run.key in self.known:
            return self.known[run.key]
        if run.mode in {"inductive", "supervised"} and not run.started:
            run = replace(run, folder=self.existing.get(settings_of(run.recipe), run.folder))
        try:
            run.check()
        except UserError as error:
            self.problems.append(str(error))
        self.known[run.key] = run
        return run


def _runs_under(output: Path, split: str) -> dict[str, Path]:
    """Folders of all trained runs for a split, by their settings; of equal runs a finished one is preferred."""
    found: dict[str, Path] = {}
    files = output.glob(f"*-{split}/*/seed*/recipe.toml")
    for file in sorted(files, key=lambda file: (not (file.parent / "model" / "config.json").exists(), file)):
        try:
            found.setdefault(settings_of(load_recipe(str(file), stored=True)), file.parent)
        except UserError:
            # A recipe of another version equals none of this one; `Run.check` reports it if a row has that folder.
            continue
    return found


def _training_free_row(
    row: TableRow, figures: dict[str, float] | None, split: str, overrides: Sequence[str]
) -> PlannedRow:
    """A row with the CLIP of the dataset's recipes in its model's name, and the published figures of its method."""
    model = row.model or ""
    if _CLIP in model:
        chosen = [key for key in overrides if key.startswith(_CLIP_KEYS)]
        clip = load_recipe(_recipe_name(get_split(split).dataset, BASE), chosen).clip
        parts = split_clip_name(clip.architecture, default=clip.weights)
        model = model.replace(_CLIP, ":".join(part for part in parts if part))
    published: tuple[PublishedMethod, ...] = ()
    if match := _METHOD.fullmatch(model):
        published = published_methods(match["method"], *split_clip_name(match["clip"], default=DEFAULT_WEIGHTS))
    shown = tuple(entry for entry in published if row.refine is None or entry.pamr == row.refine)
    return PlannedRow(row.changed(model=model), None, figures, published=shown)


def _recipe_name(dataset: str, recipe: str) -> str:
    """A recipe of the dataset's folder, of `folder/` where the dataset has none, or as it is given."""
    folder = dataset if f"{dataset}/{BASE}" in recipe_names() else "folder"
    return f"{folder}/{recipe}" if f"{folder}/{recipe}" in recipe_names() else recipe


def _recipe(table: Table, row: TableRow, split: str, seed: int, overrides: Sequence[str]) -> Recipe:
    """The recipe of a row: that of its name for the split's dataset, the row's keys, the overrides.

    It names the stages, as those of runs under way and of other rows do.
    """
    dataset = get_split(split).dataset
    name = _recipe_name(dataset, row.recipe)
    if load_recipe(name).self_training is not None:
        raise UserError(
            f'"{row.recipe}" is a recipe for self-training: name that of the inductive run, with mode = "transductive".'
        )
    # Overrides of self-training concern transductive rows only.
    usable = [key for key in overrides if row.mode == "transductive" or not key.startswith("self_training.")]
    base = load_recipe(name, usable, changes=row.set)
    base = with_stages(base, blocks_of(base.clip.architecture))
    published = row.paper if row.paper and table.figures(row, split) else None
    changes: dict[str, object] = {
        "name": f"{dataset}-{table.name}-{row.short}",
        "paper": PaperFigure(table=table.published(row), row=published) if published else None,
        "seed": seed,
        "data": {"split": split},
    }
    if row.mode == "supervised":
        trained_on = dataset if dataset in split_names() else None
        changes["data"] = {"split": trained_on}
        # All classes are trained on, so none of them may be held back by the bias on seen classes.
        changes["inference"] = {"seen_bias": 0.0}
    return base.changed(**changes)
