"""From the recipe of an inductive run to that of the self-training which follows it (SPEC section 11)."""

from __future__ import annotations

from cascade_clip.config.schema import PaperFigure, Recipe, SelfTrainingConfig
from cascade_clip.data.catalogue import find_benchmark, get_split

SUFFIX = "-self-training"


def self_training_recipe(inductive: Recipe, config: SelfTrainingConfig | None = None) -> Recipe:
    """Derive self-training's own schedule as released: half the steps, VOC's larger batch, no bias at inference.

    Args:
        inductive: Recipe of the run that it starts from.
        config: Teacher, threshold, location; unset: as released.

    Raises:
        UserError: The recipe's split is unknown.
    """
    dataset = get_split(inductive.data.split).dataset if inductive.data.split else None
    facts = find_benchmark(dataset)
    train = inductive.train
    schedule = {
        "iterations": max(1, train.iterations // 2),
        "batch": train.batch * (facts.self_training_batch_factor if facts else 1),
    }
    return inductive.model_copy(
        update={
            "name": f"{inductive.name}{SUFFIX}",
            "paper": inductive.paper if _is_transductive(inductive.paper) else None,
            "train": train.model_copy(update=schedule),
            "self_training": config or SelfTrainingConfig(),
            "inference": inductive.inference.model_copy(update={"seen_bias": 0.0}),
        }
    )


def as_self_training(recipe: Recipe) -> Recipe:
    """Take a recipe of either kind for self-training.

    One that has a section `self_training` keeps its schedule, and takes no bias from seen classes unless it says so.

    Raises:
        UserError: The recipe's split is unknown.
    """
    if recipe.self_training is None:
        return self_training_recipe(recipe)
    if "seen_bias" in recipe.inference.model_fields_set:
        return recipe
    return recipe.model_copy(update={"inference": recipe.inference.model_copy(update={"seen_bias": 0.0})})


def _is_transductive(paper: PaperFigure | None) -> bool:
    """Whether a figure of the paper is of self-training; an inductive one would stand beside the wrong result."""
    return paper is not None and paper.table.endswith("/transductive")
