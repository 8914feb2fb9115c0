"""`cascade-clip recipes`: what can be reproduced, with the paper's figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cascade_clip.config import recipes as config_recipes
from cascade_clip.errors import UserError
from cascade_clip.reproduce import table_file
from cascade_clip_cli.console import stdout
from cascade_clip_cli.recipe_table import recipe_table


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe, fully resolved, as TOML.")] = None,
    copy_to: Annotated[Path | None, typer.Option("--copy-to", help="Write it to a file of your own to change.")] = None,
) -> None:
    """List the shipped recipes with the paper's figures, or show one of them.

    Example: cascade-clip recipes coco/cascade-zegclip --copy-to mine.toml
    """

    if name is None:
        stdout.print(recipe_table([(key, config_recipes.load_recipe(key)) for key in config_recipes.recipe_names()]))
        stdout.print(f"Tables, for `cascade-clip reproduce`: {', '.join(table_file.table_names())}", highlight=False)
        return
    if copy_to is None:
        stdout.print(config_recipes.dump_toml(config_recipes.load_recipe(name)), highlight=False, markup=False)
        return
    config_recipes.load_recipe(name)
    if copy_to.exists():
        raise UserError(f'"{copy_to}" exists already: choose another name.')
    copy_to.write_text(_wherever_it_lies(config_recipes.recipe_file(name)), encoding="utf-8")
    stdout.print(f"Wrote {copy_to}; train with --recipe {copy_to}.", highlight=False)


def _wherever_it_lies(recipe: Path) -> str:
    """A recipe's text with what it extends named in full, as the copy has no neighbours."""
    text = recipe.read_text(encoding="utf-8")
    return re.sub(r'^extends = "([^"/]+)\.toml"', rf'extends = "{recipe.parent.name}/\1"', text, flags=re.MULTILINE)
