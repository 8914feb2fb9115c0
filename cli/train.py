"""`cascade-clip train`: inductive training on the seen classes of a split."""

from __future__ import annotations

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
    absolute_location,
)

if TYPE_CHECKING:
    from cascade_clip.config.schema import Recipe

DEFAULT_SPLIT = "shapes-seen"


def train(
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
    """Train on the seen classes of a split (on all classes where it has no unseen ones).

    The run's folder holds its resolved recipe, environment, metrics, states and models. Without --recipe, the
    dataset's own recipe for Cascade-CLIP is used; without --split, the classes of the dataset in --data.

    Example: cascade-clip train --split shapes-seen --set train.iterations=2000 --output runs/mine
    """
    from cascade_clip_cli.console import be_quiet, show_log
    from cascade_clip_cli.launch import run_processes
    from cascade_clip_cli.training_progress import show_training_result, training_progress

    if quiet:
        be_quiet()
    show_log()
    # Before any process is started, so that a mistake is told once.
    if resume:
        folder, chosen = _run_to_resume(
            output, given=bool(recipe or overrides or split or data or stream or seed is not None)
        )
    else:
        chosen = resolve_recipe(recipe, overrides, split, data, seed, stream=stream)
        folder = output or default_folder(chosen)
    from cascade_clip.training.start import find_training_data, start_training

    if nproc > 1:
        find_training_data(chosen)
        if run_processes(nproc, device):
            return
    with training_progress() as watch:
        trainer = start_training(
            chosen,
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
        show_training_result(scores, chosen, trainer.split.name, folder, json_file)


def resolve_recipe(
    recipe: str | None,
    overrides: list[str] | None,
    split: str | None,
    data: str | None,
    seed: int | None,
    *,
    stream: bool = False,
) -> Recipe:
    """Read the recipe, the dataset's own where none is named, and put the options on top.

    Raises:
        UserError: No such recipe, split or key, or values that do not fit.
    """
    from cascade_clip.config.recipes import load_recipe

    name = recipe or _default_recipe(split, data)
    settings = list(overrides or [])
    if split is not None:
        settings.append(f"data.split={_quoted(split)}")
    if data is not None:
        settings.append(f"data.dataset={_quoted(absolute_location(data))}")
    if stream:
        settings.append("data.stream=true")
    if seed is not None:
        settings.append(f"seed={seed}")
    return load_recipe(name, settings)


def default_folder(recipe: Recipe) -> Path:
    """Folder of a run whose user named none: recipe, split and seed."""
    split = Path(recipe.data.split).stem if recipe.data.split else "own"
    return Path("runs") / f"{recipe.name}-{split}-seed{recipe.seed}".replace("/", "-")


def _default_recipe(split: str | None, data: str | None) -> str:
    """The recipe for Cascade-CLIP on a split's dataset; the one for own data where the toolkit has none of its own."""
    from cascade_clip.config.recipes import recipe_names
    from cascade_clip.data.catalogue import get_split

    if split is None and data is not None:
        return "folder/cascade-zegclip"
    own = f"{get_split(split or DEFAULT_SPLIT).dataset}/cascade-zegclip"
    return own if own in recipe_names() else "folder/cascade-zegclip"


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)


def _run_to_resume(output: Path | None, *, given: bool) -> tuple[Path, Recipe]:
    from cascade_clip.errors import UserError
    from cascade_clip.training.run_folder import RunFolder

    if output is None:
        raise UserError("--resume needs --output: the folder of the run to continue.")
    if given:
        raise UserError(
            f'"{output}" is continued with its own recipe.toml: leave --recipe, --set, --split, --data, --stream and'
            " --seed out."
        )
    return output, RunFolder(output).recipe()
