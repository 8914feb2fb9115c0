"""The table that `cascade-clip recipes` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from cascade_clip.config import schema
from cascade_clip.evaluation import published

if TYPE_CHECKING:
    pass


def recipe_table(recipes: Sequence[tuple[str, schema.Recipe]]) -> Table:
    """Lay out name, the paper's seen / unseen / hIoU figures (percent), steps and split of recipes."""

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("recipe", no_wrap=True)
    table.add_column("paper: seen /\nunseen / hIoU", justify="right", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("split", overflow="fold")
    for name, recipe in recipes:
        split = recipe.data.split or "own"
        figures = published.paper_figures(recipe.paper.table, recipe.paper.row, split) if recipe.paper else None
        shown = [f"{figures[key]:.1f}" for key in ("miou_seen", "miou_unseen", "hiou")] if figures else ["–"]
        if recipe.evaluation.split is not None:
            split = f"{split}, scored on {recipe.evaluation.split}"
        table.add_row(name, " / ".join(shown), f"{recipe.train.iterations:,}", split)
    return table
