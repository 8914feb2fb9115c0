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

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from cascade_clip.config.mistakes import explain_mistakes
from cascade_clip.config.recipes import SUFFIX, TABLES, read_toml, recipes_folder
from cascade_clip.config.section import Section
from cascade_clip.errors import UserError, closest
from cascade_clip.evaluation.published import paper_figures
from cascade_clip.files import usable_path

Mode = Literal["inductive", "transductive", "supervised", "training-free"]
BASE = "cascade-zegclip"
"""Recipe that a row starts from where it names none; a dataset without a folder of recipes uses `folder/`."""


class TableRow(Section):
    """One row: a recipe and what it changes, or a quoted figure."""

    name: str | None = None
    """Name of the row; unset: as in the paper."""
    section: str | None = None
    """Part of the table that the row belongs to, as keyed in `evaluation/published.json`."""
    paper: str | None = None
    """Row of the paper whose figures are shown beside; unset: none."""
    recipe: str = BASE
    """Recipe that the row starts from: a name in the dataset's folder, any shipped recipe, or a TOML file."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Keys that the row changes, laid out as in a recipe."""
    mode: Mode = "inductive"
    """`inductive`: trained on the seen classes; `transductive`: self-trained from the inductive run of the row's
    recipe, as its keys `self_training` say; `supervised`: trained on all classes and scored as the others;
    `training-free`: the row's model is scored as it is."""
    model: str | None = None
    """Model of a training-free row, for example "dense:bundled"; unset for all others. `{clip}` in it stands for the
    CLIP of the dataset's recipes."""
    refine: bool | None = None
    """Whether a training-free row's scores are refined with PAMR; unset: as its method was released."""
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
        if self.refine is not None and self.model is None:
            raise ValueError("only the scores of a training-free row are refined: leave refine out")
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

    @property
    def training_free(self) -> bool:
        """Whether nothing is trained: such a table compares methods on several benchmarks."""
        return all(row.mode == "training-free" for row in self.rows)

    def figures(self, row: TableRow, split: str) -> dict[str, float] | None:
        """Published figures of a row on a split, in percent (see `paper_figures`); None: there are none.

        Raises UserError: the paper has no such table, section or row.
        """
        return paper_figures(self.published(row), row.paper, split) if row.paper else None

    def published(self, row: TableRow) -> str:
        """Key of the row's part of the paper's table, for example "table10_hosts/inductive"."""
        return "/".join(part for part in (self.paper, row.section) if part)


def table_names() -> tuple[str, ...]:
    """Names of the shipped tables: the paper's by number, then the others."""
    names = (file.stem for file in (recipes_folder() / TABLES).glob(f"*{SUFFIX}"))
    return tuple(sorted(names, key=lambda name: (not name.startswith("table"), len(name), name)))


def read_table(name_or_file: str) -> Table:
    """Read a table by its name or from a TOML file.

    A row's recipe may be a file beside the table's. Raises UserError: neither a shipped table nor a file (closest names
    are offered), invalid TOML, or mistakes in it (all in one message, each with its row).
    """
    shipped = name_or_file in table_names()
    place = recipes_folder() / TABLES / f"{name_or_file}{SUFFIX}" if shipped else name_or_file
    file = usable_path(place, "The table")
    if not file.is_file():
        raise UserError(
            f'There is no table "{name_or_file}", neither by name nor as a TOML file.'
            f"{closest(name_or_file, table_names())}"
        )
    try:
        table = Table.model_validate({"name": file.stem, **read_toml(file, "table")})
    except ValidationError as error:
        raise UserError(explain_mistakes(error, f'table "{file}"', Table)) from error
    if problems := _problems(table):
        raise UserError("\n".join([f'The table "{file}" cannot be used:', *(f"  {line}" for line in problems)]))
    rows = tuple(
        row.changed(recipe=str(beside))
        if (beside := usable_path(file.parent / row.recipe, "The recipe of a row")).is_file()
        else row
        for row in table.rows
    )
    return table.changed(rows=rows)


def _problems(table: Table) -> list[str]:
    problems: list[str] = []
    names: dict[str, str] = {}
    for row in table.rows:
        if row.short in names:
            problems.append(
                f'Rows "{names[row.short]}" and "{row.shown}" differ in punctuation only and would share a folder:'
                " rename one."
            )
        names[row.short] = row.shown
        if row.paper and table.paper is None:
            problems.append(
                f'Row "{row.shown}" names a row of the paper, but the table names no table of it: add, for example,'
                ' paper = "table5_block_split" at the top.'
            )
            continue
        try:
            # Raises for a row that the paper does not have, whatever the split.
            table.figures(row, "coco-seen")
        except UserError as error:
            problems.append(f'Row "{row.shown}": {error}')
    return problems
