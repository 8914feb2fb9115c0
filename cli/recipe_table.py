"""The table that `cascade-clip recipes` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from cascade_clip.config.schema import Recipe


def recipe_table(recipes: Sequence[tuple[str, Recipe]]) -> Table:
    """Lay out name, split, host, stages and the paper's seen / unseen / hIoU figures (percent) of recipes."""
    from cascade_clip.evaluation.published import paper_figures

    table = Table("recipe", "split", "host", "stages", "steps", "paper: seen", "unseen", "hIoU")
    for name, recipe in recipes:
        split = recipe.data.split or "own"
        figures = paper_figures(recipe.paper.table, recipe.paper.row, split) if recipe.paper else None
        cells = [f"{figures[key]:.1f}" for key in ("miou_seen", "miou_unseen", "hiou")] if figures else ["–"] * 3
        stages = " ".join(_stage(stage) for stage in recipe.model.stages)
        table.add_row(name, split, recipe.model.host, stages, f"{recipe.train.iterations:,}", *cells)
    return table


def _stage(blocks: Sequence[int]) -> str:
    return f"{{{blocks[0]}}}" if len(blocks) == 1 else f"{{{blocks[0]}-{blocks[-1]}}}"
