"""What a released checkpoint's folder says beside its tensors: released settings of its dataset, split, licence."""

from __future__ import annotations

from pathlib import Path

from cascade_clip.checkpoint.folder import Checkpoint, save_checkpoint
from cascade_clip.checkpoint.upstream import ImportedModel
from cascade_clip.config.schema import ClipConfig, DataConfig, InferenceConfig, Recipe, TextConfig
from cascade_clip.data.catalogue import find_benchmark, get_split

LICENCE = "cc-by-nc-4.0"
"""The released weights' licence: no commercial use."""


def recipe_of_import(
    name: str, split: str | None, *, templates: str | None = None, self_trained: bool = False
) -> Recipe:
    """Make the recipe of an imported model: released inference settings and templates.

    Args:
        name: Name of the model.
        split: Split it was trained on; none where nobody says.
        templates: Template set; unset: the split's dataset decides.
        self_trained: A transductive model, which takes no bias from seen classes (SPEC section 5).

    Raises:
        UserError: An unknown split.
    """
    facts = find_benchmark(get_split(split).dataset) if split else None
    chosen = templates or (facts.templates if facts else "multi")
    return Recipe(
        name=name,
        clip=ClipConfig(architecture="imported"),
        text=TextConfig(templates=chosen),
        data=DataConfig(split=split),
        inference=InferenceConfig(seen_bias=0.0 if self_trained else 0.1),
    )


def save_import(imported: ImportedModel, recipe: Recipe, folder: Path) -> None:
    """Write an imported model as a checkpoint folder, marked as non-commercial."""
    complete = recipe.model_copy(update={"model": imported.config})
    split = get_split(recipe.data.split) if recipe.data.split else None
    tensors = imported.network.own_tensors()
    save_checkpoint(folder, Checkpoint(complete, imported.clip, tensors, split, LICENCE))
