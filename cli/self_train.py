"""`cascade-clip self-train`: transductive training, with pseudo labels for the unseen classes of a split."""

from __future__ import annotations

from typing import Annotated

import typer

from cascade_clip.errors import UserError
from cascade_clip.training import run_training
from cascade_clip_cli.checked_options import place
from cascade_clip_cli.training_run import TrainingOptions, run_to_resume, train_and_show


def self_train(
    *,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="CHECKPOINT",
            callback=place,
            help="Where to start: as released, an inductive run's model-half.",
        ),
    ] = None,
    options: TrainingOptions,
) -> None:
    """Continue training with pseudo labels for the unseen classes, of which only the names are known.

    Without --recipe, the checkpoint's is used. If the recipe has no section self_training, it is the inductive run's:
    training continues for half its steps, on VOC with twice its batch, as released. Teachers, a threshold and unknown
    locations: --set self_training.teacher=moving-average, .threshold=0.5, .location=unknown.

    Example: cascade-clip self-train --init runs/mine/model-half --output runs/mine-self-trained
    """
    if options.resume:
        chosen = run_to_resume(options, init)
        if chosen.self_training is None:
            raise UserError(
                f'"{options.output}" holds an inductive run: continue it with `cascade-clip train --resume`.'
            )
    elif init is None:
        raise UserError(
            "Self-training starts from a checkpoint: name it with --init, for example --init runs/mine/model-half."
        )
    else:
        chosen = run_training.recipe_for_self_training(
            init, options.recipe, options.overrides or (), settings=options.data_settings()
        )
    train_and_show(chosen, options)
