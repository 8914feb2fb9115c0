"""The table that `cascade-clip recipes` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from cascade_clip.config.schema import Recipe


def recipe_table(recipes: Sequence[tuple[str, Recipe]]) -> Table:
    """Lay out name, split, stages and the paper's seen / unseen / hIoU figures (percent) of recipes."""
    from cascade_clip.evaluation.published import paper_figures

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("recipe", "split", "stages"):
        table.add_column(heading, no_wrap=True)
    table.add_column("steps", justify="right")
    table.add_column("paper: seen / unseen / hIoU", justify="right")
    for name, recipe in recipes:
        split = recipe.data.split or "own"
        figures = paper_figures(recipe.paper.table, recipe.paper.row, split) if recipe.paper else None
        shown = [f"{figures[key]:.1f}" for key in ("miou_seen", "miou_unseen", "hiou")] if figures else ["–"]
        stages = " ".join(_stage(stage) for stage in recipe.model.stages)
        table.add_row(name, split, stages, f"{recipe.train.iterations:,}", " / ".join(shown))
    return table


def _stage(blocks: Sequence[int]) -> str:
    return f"{{{blocks[0]}}}" if len(blocks) == 1 else f"{{{blocks[0]}-{blocks[-1]}}}"
