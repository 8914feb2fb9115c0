"""Tables of runs: TOML files whose rows are recipes on any split, one for each table of the paper or of one's own.

    title = "How the blocks are split into stages"
    paper = "table5_block_split"
    rows = [
      { paper = "{6-8},{9-11},{12}" },
      { name = "mine", recipe = "zegclip", set.model.prompts.tokens = 20 },
    ]

A row is the recipe of that name for the split's dataset with the row's own keys on top, so that the same file gives the
table on every dataset.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from cascade_clip.config.recipes import (
    SUFFIX,
    TABLES,
    explain_mistakes,
    load_recipe,
    read_toml,
    recipe_names,
    recipes_folder,
)
from cascade_clip.config.schema import PaperFigure, Recipe
from cascade_clip.config.section import Section
from cascade_clip.data.catalogue import get_split, split_names
from cascade_clip.errors import UserError, closest
from cascade_clip.evaluation.published import paper_figures

Mode = Literal["inductive", "transductive", "supervised", "training-free"]
BASE = "cascade-zegclip"
"""Recipe that a row starts from where it names none; a dataset without a folder of recipes uses `folder/`."""
_ANY_SPLIT = "coco-seen"


class TableRow(Section):
    """One row: a recipe and what it changes, or a quoted figure."""

    name: str | None = None
    """Name of the row; unset: as in the paper."""
    section: str | None = None
    """Part of the table that the row stands in, as keyed in `evaluation/published.json`."""
    paper: str | None = None
    """Row of the paper whose figures stand beside; unset: none."""
    recipe: str = BASE
    """Recipe that the row starts from: a name in the dataset's folder, any shipped recipe, or a TOML file."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Keys that the row changes, laid out as in a recipe."""
    mode: Mode = "inductive"
    """`inductive`: trained on the seen classes; `transductive`: self-trained from the inductive run of the row's
    recipe, as its keys `self_training` say; `supervised`: trained on all classes and scored as the others;
    `training-free`: the row's model is scored as it is."""
    model: str | None = None
    """Model of a training-free row, for example "dense:bundled"; unset for all others."""
    quoted: bool = False
    """A system of another paper: its figures are quoted, nothing is run."""

    @property
    def shown(self) -> str:
        """Name that the table shows."""
        return self.name or self.paper or ""

    @property
    def short(self) -> str:
        """Name of the row in recipes and folders: its section and name in lower-case letters, digits and dashes."""
        return re.sub(r"[^a-z0-9.]+", "-", f"{self.section or ''} {self.shown}".lower()).strip("-")

    @model_validator(mode="after")
    def _check_row(self) -> Self:
        if not self.shown:
            raise ValueError('a row needs a name, or the paper\'s row: name = "mine"')
        if self.quoted and (self.paper is None or self.set or self.recipe != BASE):
            raise ValueError("a quoted row names a row of the paper and neither a recipe nor keys to set")
        if (self.mode == "training-free") != (self.model is not None):
            raise ValueError('mode = "training-free" and a model, for example model = "dense:bundled", go together')
        if "self_training" in self.set and self.mode != "transductive":
            raise ValueError('keys of self_training need mode = "transductive"')
        if self.model is not None and (self.quoted or self.set or self.recipe != BASE):
            raise ValueError("a training-free row names a model and neither a recipe nor keys to set")
        return self


class Table(Section):
    """A table: its rows in the order in which they are shown."""

    name: str
    """Name of the table; unset: its file's."""
    title: str
    """What the table shows, in one line."""
    dataset: str | None = None
    """Dataset that the table is for; unset: any."""
    paper: str | None = None
    """Table of the paper as keyed in `evaluation/published.json`; unset: the rows have no published figures."""
    rows: Annotated[tuple[TableRow, ...], Field(min_length=1)]
    """The rows."""

    def figures(self, row: TableRow, split: str) -> dict[str, float] | None:
        """Published figures of a row on a split, in percent (see `paper_figures`); none where there are none.

        Raises:
            UserError: The paper has no such table, section or row.
        """
        return paper_figures(self.published(row), row.paper, split) if row.paper else None

    def published(self, row: TableRow) -> str:
        """Key of the row's part of the paper's table, for example "table10_hosts/inductive"."""
        return "/".join(part for part in (self.paper, row.section) if part)


@dataclass(frozen=True)
class PlannedRow:
    """A row on one split.

    Attributes:
        name: Name that the table shows.
        short: Name of its folder.
        section: Part of the table; none where it has no parts.
        mode: How it is trained; none for a quoted row. A transductive row's recipe is that of the inductive run which
            its self-training starts from, with the keys `self_training` on top; a supervised row is scored on the
            table's split, though it trains on another.
        recipe: What is run; none for a quoted or training-free row.
        model: What a training-free row scores.
        figures: `miou_seen`, `miou_unseen`, `hiou` of the paper in percent, if it has them for this split.
    """

    name: str
    short: str
    section: str | None
    mode: Mode | None
    recipe: Recipe | None
    model: str | None
    figures: dict[str, float] | None


def table_names() -> tuple[str, ...]:
    """Names of the shipped tables: the paper's by number, then the others."""
    names = (file.stem for file in (recipes_folder() / TABLES).glob(f"*{SUFFIX}"))
    return tuple(sorted(names, key=lambda name: (not name.startswith("table"), len(name), name)))


def read_table(name_or_file: str) -> Table:
    """Read a table by its name or from a TOML file.

    A row's recipe may be a file beside the table's.

    Raises:
        UserError: Neither a shipped table nor a file (closest names are offered), invalid TOML, or mistakes in it: all
            of them in one message, each with its row.
    """
    file = _table_file(name_or_file)
    content = {"name": file.stem, **read_toml(file, "table")}
    try:
        table = Table.model_validate(content)
    except ValidationError as error:
        raise UserError(explain_mistakes(error, f'table "{file}"', Table)) from error
    if problems := _problems(table):
        raise UserError("\n".join([f'The table "{file}" cannot be used:', *(f"  {line}" for line in problems)]))
    rows = tuple(
        row.model_copy(update={"recipe": str(beside)}) if (beside := file.parent / row.recipe).is_file() else row
        for row in table.rows
    )
    return table.model_copy(update={"rows": rows})


def table_rows(table: Table, split: str, *, seed: int = 0, overrides: Sequence[str] = ()) -> list[PlannedRow]:
    """Make the recipe of every row for one split.

    Recipes of rows with the same settings are equal but for `name` and `paper`, also across tables.

    Args:
        table: The table.
        split: A split by name, or a TOML file of an own one. Supervised rows train on all classes of its dataset.
        seed: Seed of every run.
        overrides: `section.key=value` each, on top of every row, as for `load_recipe`.

    Returns:
        The rows in order, without quoted ones that have no figure for the split.

    Raises:
        UserError: An unknown split, a recipe that is not there, keys or values that do not fit; all rows' mistakes in
            one message.
    """
    get_split(split)
    planned: list[PlannedRow] = []
    problems: list[str] = []
    for row in table.rows:
        figures = table.figures(row, split)
        if row.quoted and figures is None:
            continue
        try:
            recipe = None if row.quoted or row.model else _recipe(table, row, split, seed, overrides)
        except UserError as error:
            problems.append(f'Row "{row.shown}" of {table.name}: {error}')
            continue
        mode = None if row.quoted else row.mode
        planned.append(PlannedRow(row.shown, row.short, row.section, mode, recipe, row.model, figures))
    if problems:
        raise UserError("\n".join(problems))
    return planned


def _table_file(name_or_file: str) -> Path:
    if name_or_file in table_names():
        return recipes_folder() / TABLES / f"{name_or_file}{SUFFIX}"
    file = Path(name_or_file).expanduser()
    if not file.is_file():
        raise UserError(
            f'There is no table "{name_or_file}", neither by name nor as a TOML file.'
            f"{closest(name_or_file, table_names())}"
        )
    return file


def _problems(table: Table) -> list[str]:
    problems: list[str] = []
    names: dict[str, str] = {}
    for row in table.rows:
        if row.short in names:
            problems.append(f'Rows "{names[row.short]}" and "{row.shown}" differ in nothing but signs: rename one.')
        names[row.short] = row.shown
        if row.paper and table.paper is None:
            problems.append(
                f'Row "{row.shown}" names a row of the paper, but the table names no table of it: add, for example,'
                ' paper = "table5_block_split" at the top.'
            )
            continue
        try:
            table.figures(row, _ANY_SPLIT)
        except UserError as error:
            problems.append(f'Row "{row.shown}": {error}')
    return problems


def _recipe(table: Table, row: TableRow, split: str, seed: int, overrides: Sequence[str]) -> Recipe:
    dataset = get_split(split).dataset
    name = _base(row.recipe, dataset)
    if load_recipe(name).self_training is not None:
        raise UserError(
            f'"{row.recipe}" is a recipe for self-training: name that of the inductive run, with mode = "transductive".'
        )
    # What self-training is to do differently concerns no other row.
    usable = [key for key in overrides if row.mode == "transductive" or not key.startswith("self_training.")]
    base = load_recipe(name, usable, changes=row.set)
    figures = table.figures(row, split)
    paper = PaperFigure(table=table.published(row), row=row.paper) if row.paper and figures else None
    trained_on: str | None = split
    inference = base.inference
    if row.mode == "supervised":
        trained_on = dataset if dataset in split_names() else None
        # No class is unseen in training, so none may be held back where the scores tell seen and unseen apart.
        inference = inference.model_copy(update={"seen_bias": 0.0})
    return base.model_copy(
        update={
            "name": f"{dataset}-{table.name}-{row.short}",
            "paper": paper,
            "seed": seed,
            "data": base.data.model_copy(update={"split": trained_on}),
            "inference": inference,
        }
    )


def _base(recipe: str, dataset: str) -> str:
    """Full name of a row's recipe on a dataset; what names no recipe of the dataset's folder is left as it is."""
    folder = dataset if f"{dataset}/{BASE}" in recipe_names() else "folder"
    return f"{folder}/{recipe}" if f"{folder}/{recipe}" in recipe_names() else recipe
