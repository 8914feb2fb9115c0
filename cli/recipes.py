"""`cascade-clip recipes`: what can be reproduced, with the paper's figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from cascade_clip.config import recipes as shipped
from cascade_clip.config import schema
from cascade_clip.errors import UserError
from cascade_clip.evaluation import published
from cascade_clip.files import write_files
from cascade_clip.model import stages
from cascade_clip.model.clip import load
from cascade_clip.reproduce import table_file
from cascade_clip_cli.checked_options import as_path, output_file, place
from cascade_clip_cli.console import stdout
from cascade_clip_cli.tables import MISSING, plain_table, right


def recipes(
    name: Annotated[
        str | None, typer.Argument(callback=place, help="Show this recipe, fully resolved, as TOML.")
    ] = None,
    copy_to: Annotated[
        Path | None,
        typer.Option("--copy-to", parser=as_path, callback=output_file, help="Copy it to this file, to change it."),
    ] = None,
) -> None:
    """List the shipped recipes with the paper's figures, or show one of them.

    Example: cascade-clip recipes coco/cascade-zegclip --copy-to mine.toml
    """

    if name is None and copy_to is not None:
        raise UserError("--copy-to needs the name of the recipe, as in `cascade-clip recipes shapes/zegclip`.")
    if name is None:
        stdout.print(_recipe_table([(key, shipped.load_recipe(key)) for key in shipped.recipe_names()]))
        stdout.print(f"Tables, for `cascade-clip reproduce`: {', '.join(table_file.table_names())}")
        return
    if copy_to is None:
        recipe = shipped.load_recipe(name)
        # A CLIP that is not at hand does not matter here: its stages stay unset, as in the file.
        with suppress(UserError):
            recipe = stages.with_stages(recipe, load.blocks_of(recipe.clip.architecture))
        stdout.print(shipped.dump_toml(recipe))
        return
    shipped.load_recipe(name)
    if copy_to.exists():
        raise UserError(f'"{copy_to}" exists already: choose another name.')
    write_files({copy_to: _with_full_names(shipped.recipe_file(name)).encode()})
    stdout.print(f"Wrote {copy_to}; train with --recipe {copy_to}.")


def _with_full_names(recipe: Path) -> str:
    """A recipe's text with what it extends named in full, as the copy has no neighbours."""
    text = recipe.read_text(encoding="utf-8")
    return re.sub(r'^extends = "([^"/]+)\.toml"', rf'extends = "{recipe.parent.name}/\1"', text, flags=re.MULTILINE)


def _recipe_table(recipes: Sequence[tuple[str, schema.Recipe]]) -> Table:
    """Lay out name, the paper's seen / unseen / hIoU figures (percent) and steps of recipes, split by split.

    The split has a line of its own: beside the longest name it would not fit into 80 columns.
    """
    figures = (right("paper: seen /\nunseen / hIoU", no_wrap=True), right("steps", no_wrap=True))
    table = plain_table("", Column("recipe", no_wrap=True), *figures)
    by_split: dict[str, list[tuple[str, schema.Recipe]]] = {}
    for name, recipe in recipes:
        by_split.setdefault(_trained_on(recipe), []).append((name, recipe))
    for split, of_split in by_split.items():
        table.add_row(Text(split, style="bold"))
        for name, recipe in of_split:
            table.add_row(name, _published(recipe), f"{recipe.train.iterations:,}")
    # A narrower terminal breaks the lines, and never shortens a name or a figure.
    table.width = stdout.measure(table, options=stdout.options.update_width(200)).maximum
    return table


def _trained_on(recipe: schema.Recipe) -> str:
    split = recipe.data.split or "your own dataset"
    return split if recipe.evaluation.split is None else f"{split}, scored on {recipe.evaluation.split}"


def _published(recipe: schema.Recipe) -> str:
    if recipe.paper is None or recipe.data.split is None:
        return MISSING
    figures = published.paper_figures(recipe.paper.table, recipe.paper.row, recipe.data.split)
    return " / ".join(f"{figures[key]:.1f}" for key in ("miou_seen", "miou_unseen", "hiou")) if figures else MISSING
