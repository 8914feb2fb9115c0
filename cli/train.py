"""`cascade-clip train`: inductive training on the seen classes of a split."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade_clip.config import recipes, schema
from cascade_clip.data import catalogue
from cascade_clip.errors import UserError
from cascade_clip.training import run_training
from cascade_clip_cli.options import (
    DataOption,
    DeviceOption,
    JsonOption,
    OutputOption,
    PrecisionOption,
    ProcessesOption,
    QuietOption,
    RecipeOption,
    SeedOption,
    SetOption,
    SplitOption,
    StreamOption,
)
from cascade_clip_cli.training_run import (
    RESUME,
    data_settings,
    default_folder,
    run_to_resume,
    start_output,
    train_and_show,
)

DEFAULT_SPLIT = "shapes-seen"


def train(
    split: SplitOption = None,
    data: DataOption = None,
    stream: StreamOption = False,
    recipe: RecipeOption = None,
    overrides: SetOption = None,
    init: Annotated[
        str | None,
        typer.Option("--init", metavar="CHECKPOINT", help="Start from its weights, on whatever classes and data."),
    ] = None,
    output: OutputOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    nproc: ProcessesOption = 1,
    resume: Annotated[bool, typer.Option("--resume", help=RESUME)] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --output.")] = False,
    track: Annotated[str | None, typer.Option("--track", help="tensorboard, wandb, trackio, mlflow…")] = None,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train on the seen classes of a split (on all classes where it has no unseen ones).

    The run's folder holds its resolved recipe, environment, metrics, states and models. Without --recipe, the
    dataset's own recipe for Cascade-CLIP is used; without --split, the classes of the dataset in --data. With --init,
    the model is the checkpoint's and the schedule the dataset's: fine-tuning.

    Example: cascade-clip train --split shapes-seen --set train.iterations=2000 --output runs/mine
    """
    start_output(quiet)
    # Before any process is started, so that a mistake is reported once.
    if resume:
        given = bool(recipe or split or data or stream or init or seed is not None)
        options = "--recipe, --init, --split, --data, --stream and --seed"
        folder, chosen = run_to_resume(output, overrides, given=given, options=options)
    else:
        chosen = resolve_recipe(recipe, overrides, split, data, seed, stream=stream, init=init)
        folder = output or default_folder(chosen)
    if chosen.self_training is not None:
        raise UserError(f'"{chosen.name}" is self-training: use `cascade-clip self-train`.')
    train_and_show(
        chosen,
        folder,
        device=device,
        precision=precision,
        nproc=nproc,
        resume=resume,
        overwrite=overwrite,
        track=track,
        json_file=json_file,
        overrides=overrides,
    )


def resolve_recipe(
    recipe: str | None,
    overrides: list[str] | None,
    split: str | None,
    data: str | None,
    seed: int | None,
    *,
    stream: bool = False,
    init: str | None = None,
) -> schema.Recipe:
    """Read the recipe, the dataset's own where none is named, and put the options on top.

    With `init`, only the schedule is the dataset's own: the model is the checkpoint's.

    Raises:
        UserError: No such recipe, split or key, or values that do not fit.
    """
    name, settings = recipe or _default_recipe(split, data), data_settings(split, data, seed, stream=stream)
    if init is not None:
        return run_training.recipe_for_fine_tuning(init, recipe, name, [*(overrides or []), *settings])
    return recipes.load_recipe(name, [*(overrides or []), *settings])


def _default_recipe(split: str | None, data: str | None) -> str:
    """The recipe for Cascade-CLIP on a split's dataset; the one for own data where the toolkit has none of its own."""
    if split is None and data is not None:
        return "folder/cascade-zegclip"
    own = f"{catalogue.get_split(split or DEFAULT_SPLIT).dataset}/cascade-zegclip"
    return own if own in recipes.recipe_names() else "folder/cascade-zegclip"
