"""`cascade-clip self-train`: transductive training, with pseudo labels for the unseen classes of a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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

if TYPE_CHECKING:
    from cascade_clip.config.schema import Recipe


def self_train(
    init: Annotated[
        str | None,
        typer.Option(
            "--init", metavar="CHECKPOINT", help="Where to start: as released, an inductive run's model-half."
        ),
    ] = None,
    split: SplitOption = None,
    data: DataOption = None,
    stream: StreamOption = False,
    recipe: RecipeOption = None,
    overrides: SetOption = None,
    output: OutputOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    nproc: ProcessesOption = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --output.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --output.")] = False,
    track: Annotated[str | None, typer.Option("--track", help="tensorboard, wandb, trackio, mlflow…")] = None,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train on with pseudo labels for the unseen classes, of which only the names are given.

    Without --recipe, that of the checkpoint is used. A recipe without a section self_training is taken for that of the
    inductive run: half its steps follow, and twice its batch on VOC, as released. Teachers, a threshold and unknown
    locations: --set self_training.teacher=moving-average, .threshold=0.5, .location=unknown.

    Example: cascade-clip self-train --init runs/mine/model-half --output runs/mine-self-trained
    """
    from cascade_clip_cli.console import be_quiet, show_log
    from cascade_clip_cli.training_run import data_settings, default_folder, run_to_resume, run_training

    if quiet:
        be_quiet()
    show_log()
    if resume:
        given = bool(init or recipe or overrides or split or data or stream or seed is not None)
        options = "--init, --recipe, --set, --split, --data, --stream and --seed"
        folder, chosen = run_to_resume(output, given=given, options=options)
        _check_kind(chosen, folder)
    else:
        chosen = resolve_self_training(init, recipe, overrides, data_settings(split, data, seed, stream=stream))
        folder = output or default_folder(chosen)
    run_training(
        chosen,
        folder,
        device=device,
        precision=precision,
        nproc=nproc,
        resume=resume,
        overwrite=overwrite,
        track=track,
        json_file=json_file,
    )


def resolve_self_training(
    init: str | None, recipe: str | None, overrides: list[str] | None, settings: list[str]
) -> Recipe:
    """Derive the recipe of a self-training run.

    Args:
        init: The checkpoint to start from.
        recipe: A recipe of either kind; unset: the checkpoint's.
        overrides: `section.key=value` each, on top of everything.
        settings: The same from other options, which also decide the schedule.

    Raises:
        UserError: No checkpoint, no such recipe, or values that do not fit.
    """
    from cascade_clip.checkpoint.folder import recipe_of_checkpoint
    from cascade_clip.checkpoint.location import checkpoint_folder
    from cascade_clip.config.recipes import change_recipe, load_recipe
    from cascade_clip.config.self_training import as_self_training
    from cascade_clip.errors import UserError

    if init is None:
        raise UserError(
            "Self-training starts from a checkpoint: name it with --init, for example --init runs/mine/model-half."
        )
    folder = checkpoint_folder(init)
    half_way = folder / "model-half"
    if not (folder / "config.json").exists() and half_way.is_dir():
        raise UserError(
            f'"{init}" is the folder of a run. Released self-training starts from its half-way checkpoint: --init'
            f" {half_way}."
        )
    own = recipe_of_checkpoint(folder)
    base = load_recipe(recipe, settings) if recipe else change_recipe(own, settings)
    location = str(folder.resolve()) if Path(init).expanduser().exists() else init
    return change_recipe(as_self_training(base), [*(overrides or []), f"self_training.init={json.dumps(location)}"])


def _check_kind(recipe: Recipe, folder: Path) -> None:
    from cascade_clip.errors import UserError

    if recipe.self_training is None:
        raise UserError(f'"{folder}" holds an inductive run: continue it with `cascade-clip train --resume`.')
