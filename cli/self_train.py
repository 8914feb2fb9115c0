"""`cascade-clip self-train`: transductive training, with pseudo labels for the unseen classes of a split."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade_clip.errors import UserError
from cascade_clip.training import run_training
from cascade_clip_cli.checked_options import place
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


def self_train(
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="CHECKPOINT",
            callback=place,
            help="Where to start: as released, an inductive run's model-half.",
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
    resume: Annotated[bool, typer.Option("--resume", help=RESUME)] = False,
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
    start_output(quiet)
    if resume:
        given = bool(init or recipe or split or data or stream or seed is not None)
        options = "--init, --recipe, --split, --data, --stream and --seed"
        folder, chosen = run_to_resume(output, overrides, given=given, options=options)
        if chosen.self_training is None:
            raise UserError(f'"{folder}" holds an inductive run: continue it with `cascade-clip train --resume`.')
    elif init is None:
        raise UserError(
            "Self-training starts from a checkpoint: name it with --init, for example --init runs/mine/model-half."
        )
    else:
        settings = data_settings(split, data, seed, stream=stream)
        chosen = run_training.recipe_for_self_training(init, recipe, overrides or (), settings=settings)
        folder = output or default_folder(chosen)
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
