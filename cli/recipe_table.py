"""The table that `cascade-clip recipes` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from cascade_clip.config.schema import Recipe


def recipe_table(recipes: Sequence[tuple[str, Recipe]]) -> Table:
    """Lay out name, the paper's seen / unseen / hIoU figures (percent), steps and split of recipes."""
    from cascade_clip.evaluation.published import paper_figures

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("recipe", no_wrap=True)
    table.add_column("paper: seen /\nunseen / hIoU", justify="right", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("split", overflow="fold")
    for name, recipe in recipes:
        split = recipe.data.split or "own"
        figures = paper_figures(recipe.paper.table, recipe.paper.row, split) if recipe.paper else None
        shown = [f"{figures[key]:.1f}" for key in ("miou_seen", "miou_unseen", "hiou")] if figures else ["–"]
        if recipe.evaluation.split is not None:
            split = f"{split}, scored on {recipe.evaluation.split}"
        table.add_row(name, " / ".join(shown), f"{recipe.train.iterations:,}", split)
    return table
