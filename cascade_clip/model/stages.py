"""The stages of the cascade on a CLIP of any depth."""

from collections.abc import Sequence
from itertools import pairwise

from cascade_clip.config.schema import ModelConfig, Recipe

PAPER_STAGES = ((6, 7, 8), (9, 10, 11), (12,))


def stages_of(config: ModelConfig, blocks: int) -> tuple[tuple[int, ...], ...]:
    """Blocks of each stage, 1-based: the recipe's, else the paper's scaled to a tower of so many blocks."""
    return config.stages or scaled_stages(PAPER_STAGES, blocks)


def with_stages(recipe: Recipe, blocks: int) -> Recipe:
    """The recipe with its stages named, see `stages_of`."""
    return recipe.changed(model={"stages": stages_of(recipe.model, blocks)})


def scaled_stages(stages: Sequence[Sequence[int]], blocks: int) -> tuple[tuple[int, ...], ...]:
    """Scale stages to a tower of another depth: each begins in proportion and ends before the next one.

    Example:
        >>> scaled_stages([[6, 7, 8], [9, 10, 11], [12]], 16)
        ((8, 9, 10, 11), (12, 13, 14, 15), (16,))
    """
    last = max(block for stage in stages for block in stage)
    first = sorted({max(1, round(stage[0] * blocks / last)) for stage in stages})
    return tuple(tuple(range(start, end)) for start, end in pairwise([*first, blocks + 1]))
