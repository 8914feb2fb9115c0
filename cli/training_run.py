"""What `train` and `self-train` have in common: options, processes, progress, the result."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cascade_clip.config import schema
from cascade_clip.errors import UserError, counted
from cascade_clip.evaluation import scores as scoring
from cascade_clip.training import meter, run_folder, run_training, start, state
from cascade_clip_cli import options
from cascade_clip_cli.console import bars_told_to, stderr, stdout
from cascade_clip_cli.launch import run_processes
from cascade_clip_cli.progress import TimeLeft, Work, progress_line
from cascade_clip_cli.tables import scores_table, write_json


@dataclass(frozen=True)
class TrainingOptions:
    """The options of both commands."""

    split: options.SplitOption = None
    data: options.DataOption = None
    stream: options.StreamOption = False
    recipe: options.RecipeOption = None
    overrides: options.SetOption = None
    output: options.OutputOption = None
    seed: options.SeedOption = None
    device: options.DeviceOption = "auto"
    precision: options.PrecisionOption = "fp32"
    nproc: options.ProcessesOption = 1
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in --output; --set train.iterations=N prolongs it, and its learning rate follows N.",
        ),
    ] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --output.")] = False
    track: Annotated[str | None, typer.Option("--track", help="tensorboard, wandb, trackio, mlflow…")] = None
    json_file: options.JsonOption = None
    quiet: options.QuietOption = False

    def data_settings(self) -> list[str]:
        """The options `--split`, `--data`, `--stream` and `--seed` as overrides of a recipe."""
        settings = []
        if self.split is not None:
            settings.append(f"data.split={json.dumps(self.split)}")
        if self.data is not None:
            settings.append(f"data.dataset={json.dumps(options.absolute_location(self.data))}")
        if self.stream:
            settings.append("data.stream=true")
        if self.seed is not None:
            settings.append(f"seed={self.seed}")
        return settings


def default_folder(recipe: schema.Recipe) -> Path:
    """Folder of a run whose user named none: recipe, split and seed."""
    split = Path(recipe.data.split).stem if recipe.data.split else "own"
    return Path("runs") / f"{recipe.name}-{split}-seed{recipe.seed}".replace("/", "-")


def run_to_resume(options: TrainingOptions, init: str | None) -> schema.Recipe:
    """The recipe of the run in `--output`, with the keys that change from here on.

    Raises UserError: no folder, no run in it, or options or changes that it does not take.
    """
    if options.output is None:
        raise UserError("--resume needs --output: the folder of the run to continue.")
    if init or options.recipe or options.data_settings():
        raise UserError(
            f'"{options.output}" is continued with its own recipe.toml: leave --init, --recipe, --split, --data,'
            " --stream and --seed out."
        )
    return state.recipe_to_continue(run_folder.RunFolder(options.output), options.overrides or ())


def train_and_show(recipe: schema.Recipe, options: TrainingOptions) -> None:
    """Train in one process or several, show progress, and the result at the end.

    Raises UserError: whatever keeps the run from starting or going on.
    """
    if options.resume and options.overwrite:
        raise UserError("Give only one of --resume, which continues a run, and --overwrite, which begins it anew.")
    run = run_folder.RunFolder(options.output or default_folder(recipe))
    with _continued_by_resume(recipe, run, options):
        if options.nproc > 1:
            start.find_training_data(recipe)
            if not options.resume:
                run.check_free(overwrite=options.overwrite)
            if run_processes(options.nproc, options.device):
                return
        with training_progress() as progress:
            result = run_training.train(
                recipe,
                run.folder,
                device=options.device,
                precision=options.precision,
                resume=options.resume,
                overwrite=options.overwrite,
                track=options.track,
                watch=progress.watch,
                doing=progress.doing,
                changes=(options.overrides or ()) if options.resume else (),
            )
    if result.is_main_process:
        _show_result(result, options.json_file)


@contextmanager
def _continued_by_resume(recipe: schema.Recipe, run: run_folder.RunFolder, options: TrainingOptions) -> Iterator[None]:
    """Add to an interrupt how far the run is and the command that continues it, where it has begun."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not run.recipe_file.exists():
            raise
        command = ["train" if recipe.self_training is None else "self-train", "--resume", "--output", str(run.folder)]
        # What the recipe does not hold, and the command needs again.
        for option in ("device", "precision", "nproc", "track"):
            if (value := getattr(options, option)) not in {None, "auto", "fp32", 1}:
                command += [f"--{option}", str(value)]
        raise type(interrupt)(
            f"Interrupted; {run.steps_kept} of {recipe.train.iterations} steps are kept. To continue:"
            f" cascade-clip {shlex.join(command)}"
        ) from interrupt


class TrainingProgress:
    """Shows how far a run is: step, time left, loss, images a second; before the first step, what is done instead."""

    def __init__(self, show: Callable[[Work], None]) -> None:
        self._show = show
        self._left = TimeLeft()
        self._report: meter.TrainReport | None = None
        self._facts: tuple[str, ...] = ()

    def doing(self, what: str) -> None:
        """Show what is being done between the steps."""
        if self._report is None:
            self._left = TimeLeft()
        self._draw(what)

    def watch(self, report: meter.TrainReport) -> None:
        """Show a step; a validation's scores get a line of their own."""
        memory = f"{report.memory:,.0f} MiB" if report.memory else ""
        terms = f"focal {report.focal:.3f}, {report.region_loss} {report.region:.3f}"
        speed, left = f"{report.images_per_second:.1f} images/s", self._left(report.step, report.steps)
        self._report = report
        self._facts = (left, f"loss {report.loss:#.4g}", speed, f"lr {report.lr:.1e}", terms, memory)
        self._draw()
        if report.validation is not None:
            stderr.print(f"step {report.step}: {_validation_line(report.validation)}")

    def end(self) -> None:
        """Where stderr is no terminal, print the last step."""
        if self._report is not None and not stderr.is_interactive:
            stderr.print("  ".join(filter(None, ("train", self._step(), *self._facts[1:]))), soft_wrap=True)

    def _step(self) -> str:
        return f"{self._report.step:,}/{self._report.steps:,}" if self._report is not None else ""

    def _draw(self, what: str = "") -> None:
        done, total = (self._report.step, self._report.steps) if self._report is not None else (0, None)
        self._show(Work((self._step(), what, *self._facts), done, total))


@contextmanager
def training_progress() -> Iterator[TrainingProgress]:
    """Draw a run's progress, on one of several processes; see `TrainingProgress`."""
    first = os.environ.get("RANK", "0") == "0"
    with progress_line("train", transient=False, shown=first) as show:
        progress = TrainingProgress(show)
        progress.doing("loading PyTorch")
        with bars_told_to(progress.doing):
            yield progress
        if first:
            progress.end()


def _show_result(result: run_training.TrainingResult, json_file: Path | None) -> None:
    """Print the table of the last validation and where the model lies; write it as JSON where wanted."""
    recipe, scores, split = result.recipe, result.scores, result.split.name
    if scores is not None:
        title = f"{recipe.name} after {counted(recipe.train.iterations, 'step')}"
        stdout.print(scores_table(scores, recipe.paper, split, title=title))
    stdout.print(f"Model: {result.model}")
    if json_file is not None:
        figures = scores.to_dict() if scores is not None else None
        write_json(json_file, {"model": str(result.model), "split": split, "scores": figures})


def _validation_line(scores: scoring.Scores) -> str:
    figures = {"mIoU": scores.miou}
    if scores.unseen:
        figures |= {"seen": scores.miou_seen, "unseen": scores.miou_unseen, "hIoU": scores.hiou}
    figures["pixel accuracy"] = scores.pixel_accuracy
    return "  ".join(f"{name} {100 * value:.1f}" for name, value in figures.items())
