"""`cascade-clip recipes`: what can be reproduced, with the paper's figures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer


def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe, fully resolved, as TOML.")] = None,
    copy_to: Annotated[Path | None, typer.Option("--copy-to", help="Write it to a file of your own to change.")] = None,
) -> None:
    """List the shipped recipes with the paper's figures, or show one of them.

    Example: cascade-clip recipes coco/cascade-zegclip --copy-to mine.toml
    """
    from cascade_clip.config.recipes import dump_toml, load_recipe, recipe_file, recipe_names
    from cascade_clip.errors import UserError
    from cascade_clip_cli.console import stdout

    if name is None:
        from cascade_clip.reproduce.table_file import table_names
        from cascade_clip_cli.recipe_table import recipe_table

        stdout.print(recipe_table([(key, load_recipe(key)) for key in recipe_names()]))
        stdout.print(f"Tables, for `cascade-clip reproduce`: {', '.join(table_names())}", highlight=False)
        return
    if copy_to is None:
        stdout.print(dump_toml(load_recipe(name)), highlight=False, markup=False)
        return
    load_recipe(name)
    if copy_to.exists():
        raise UserError(f'"{copy_to}" exists already: choose another name.')
    copy_to.write_text(_wherever_it_lies(recipe_file(name)), encoding="utf-8")
    stdout.print(f"Wrote {copy_to}; train with --recipe {copy_to}.", highlight=False)


def _wherever_it_lies(recipe: Path) -> str:
    """A recipe's text with what it extends named in full, as the copy has no neighbours."""
    text = recipe.read_text(encoding="utf-8")
    return re.sub(r'^extends = "([^"/]+)\.toml"', rf'extends = "{recipe.parent.name}/\1"', text, flags=re.MULTILINE)
