"""`cascade-clip train`: inductive training on the seen classes of a split."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade_clip.config import recipes, schema
from cascade_clip.data import catalogue
from cascade_clip.errors import UserError
from cascade_clip.training import run_training
from cascade_clip_cli.training_run import TrainingOptions, run_to_resume, train_and_show

DEFAULT_SPLIT = "shapes-seen"


def train(
    *,
    init: Annotated[
        str | None,
        typer.Option("--init", metavar="CHECKPOINT", help="Start from its weights; classes and data may differ."),
    ] = None,
    options: TrainingOptions,
) -> None:
    """Train on the seen classes of a split (on all classes where it has no unseen ones).

    The run's folder holds its resolved recipe, environment, metrics, states and models. Without --recipe, the
    dataset's own recipe for Cascade-CLIP is used; without --split, the classes of the dataset in --data. With --init,
    the model is the checkpoint's and the schedule the dataset's: fine-tuning.

    Example: cascade-clip train --split shapes-seen --set train.iterations=2000 --output runs/mine
    """
    # Before any process is started, so that a mistake is reported once.
    chosen = run_to_resume(options, init) if options.resume else resolve_recipe(options, init)
    if chosen.self_training is not None:
        raise UserError(f'"{chosen.name}" is self-training: use `cascade-clip self-train`.')
    train_and_show(chosen, options)


def resolve_recipe(options: TrainingOptions, init: str | None = None) -> schema.Recipe:
    """Read the recipe, the dataset's own where none is named, and put the options on top.

    With `init`, only the schedule is the dataset's own: the model is the checkpoint's. Raises UserError: no such
    recipe, split or key, or values that do not fit.
    """
    name = options.recipe or _default_recipe(options.split, options.data)
    overrides = [*(options.overrides or []), *options.data_settings()]
    if init is not None:
        return run_training.recipe_for_fine_tuning(init, options.recipe, name, overrides)
    return recipes.load_recipe(name, overrides)


def _default_recipe(split: str | None, data: str | None) -> str:
    """The recipe for Cascade-CLIP on a split's dataset; the one for own data where the toolkit has none of its own."""
    if split is None and data is not None:
        return "folder/cascade-zegclip"
    own = f"{catalogue.get_split(split or DEFAULT_SPLIT).dataset}/cascade-zegclip"
    return own if own in recipes.recipe_names() else "folder/cascade-zegclip"
