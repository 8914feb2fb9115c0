"""What `train` and `self-train` have in common: their options put on a recipe, processes, progress, the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from cascade_clip_cli.options import absolute_location

if TYPE_CHECKING:
    from cascade_clip.config.schema import Recipe


def data_settings(split: str | None, data: str | None, seed: int | None, *, stream: bool) -> list[str]:
    """The options `--split`, `--data`, `--stream` and `--seed` as overrides of a recipe."""
    settings = []
    if split is not None:
        settings.append(f"data.split={json.dumps(split)}")
    if data is not None:
        settings.append(f"data.dataset={json.dumps(absolute_location(data))}")
    if stream:
        settings.append("data.stream=true")
    if seed is not None:
        settings.append(f"seed={seed}")
    return settings


def default_folder(recipe: Recipe) -> Path:
    """Folder of a run whose user named none: recipe, split and seed."""
    split = Path(recipe.data.split).stem if recipe.data.split else "own"
    return Path("runs") / f"{recipe.name}-{split}-seed{recipe.seed}".replace("/", "-")


def run_to_resume(output: Path | None, *, given: bool, options: str) -> tuple[Path, Recipe]:
    """The run to continue and its recipe.

    Args:
        output: Its folder.
        given: Whether the user gave any of the options that the run's recipe decides.
        options: Their names.

    Raises:
        UserError: No folder, no run in it, or options that it does not take.
    """
    from cascade_clip.errors import UserError
    from cascade_clip.training.run_folder import RunFolder

    if output is None:
        raise UserError("--resume needs --output: the folder of the run to continue.")
    if given:
        raise UserError(f'"{output}" is continued with its own recipe.toml: leave {options} out.')
    return output, RunFolder(output).recipe()


def run_training(
    recipe: Recipe,
    folder: Path,
    *,
    device: str,
    precision: str,
    nproc: int,
    resume: bool,
    overwrite: bool,
    track: str | None,
    json_file: Path | None,
) -> None:
    """Train in one process or several, show progress, and the result at the end.

    Raises:
        UserError: Whatever keeps the run from starting or going on.
    """
    from cascade_clip.training.start import find_training_data, start_training
    from cascade_clip_cli.launch import run_processes
    from cascade_clip_cli.training_progress import show_training_result, training_progress

    if nproc > 1:
        find_training_data(recipe)
        if run_processes(nproc, device):
            return
    with training_progress() as watch:
        trainer = start_training(
            recipe,
            folder,
            device=device,
            precision=precision,
            resume=resume,
            overwrite=overwrite,
            track=track,
            watch=watch,
        )
        scores = trainer.train(resume=resume)
        trainer.accelerator.end_training()
    if trainer.accelerator.is_main_process:
        show_training_result(scores, recipe, trainer.split.name, folder, json_file)
