"""What `train` and `self-train` have in common: their options put on a recipe, processes, progress, the result."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cascade_clip.config import schema
from cascade_clip.errors import UserError
from cascade_clip.evaluation import scores as scoring
from cascade_clip.training import continuation, meter, run_folder, run_training, start
from cascade_clip_cli.console import bars_told_to, be_quiet, show_log, stderr, stdout
from cascade_clip_cli.launch import run_processes
from cascade_clip_cli.options import absolute_location
from cascade_clip_cli.progress import TimeLeft, Work, progress_line
from cascade_clip_cli.tables import scores_table, write_json

RESUME = "Continue the run in --output; --set train.iterations=N prolongs it, and its learning rate follows N."


def start_output(quiet: bool) -> None:
    """Show the library's log on stderr, or nothing but results."""
    if quiet:
        be_quiet()
    show_log()


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


def default_folder(recipe: schema.Recipe) -> Path:
    """Folder of a run whose user named none: recipe, split and seed."""
    split = Path(recipe.data.split).stem if recipe.data.split else "own"
    return Path("runs") / f"{recipe.name}-{split}-seed{recipe.seed}".replace("/", "-")


def run_to_resume(
    output: Path | None, overrides: Sequence[str] | None, *, given: bool, options: str
) -> tuple[Path, schema.Recipe]:
    """The run to continue and its recipe.

    Args:
        output: Its folder.
        overrides: Keys that change from here on.
        given: Whether the user gave any of the options that the run's recipe decides.
        options: Their names.

    Raises:
        UserError: No folder, no run in it, or options or changes that it does not take.
    """
    if output is None:
        raise UserError("--resume needs --output: the folder of the run to continue.")
    if given:
        raise UserError(f'"{output}" is continued with its own recipe.toml: leave {options} out.')
    return output, continuation.recipe_to_continue(run_folder.RunFolder(output), overrides or ())


def train_and_show(
    recipe: schema.Recipe,
    folder: Path,
    *,
    device: str,
    precision: str,
    nproc: int,
    resume: bool,
    overwrite: bool,
    track: str | None,
    json_file: Path | None,
    overrides: Sequence[str] | None,
) -> None:
    """Train in one process or several, show progress, and the result at the end.

    Raises:
        UserError: Whatever keeps the run from starting or going on.
    """
    if resume and overwrite:
        raise UserError("Give only one of --resume, which continues a run, and --overwrite, which begins it anew.")
    options = {"--device": device, "--precision": precision, "--nproc": str(nproc), "--track": track}
    with _continued_by_resume(recipe, folder, options):
        if nproc > 1:
            start.find_training_data(recipe)
            if not resume:
                run_folder.RunFolder(folder).check_free(overwrite=overwrite)
            if run_processes(nproc, device):
                return
        with training_progress() as progress:
            result = run_training.train(
                recipe,
                folder,
                device=device,
                precision=precision,
                resume=resume,
                overwrite=overwrite,
                track=track,
                watch=progress.watch,
                doing=progress.doing,
                changes=(overrides or ()) if resume else (),
            )
    if result.is_main_process:
        _show_result(result, json_file)


@contextmanager
def _continued_by_resume(recipe: schema.Recipe, folder: Path, options: Mapping[str, str | None]) -> Iterator[None]:
    """Add to an interrupt how far the run is and the command that continues it, where it has begun.

    Args:
        recipe: The run's recipe.
        folder: The run's folder.
        options: What the recipe does not hold, and the command needs again.
    """
    run = run_folder.RunFolder(folder)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not run.recipe_file.exists():
            raise
        command = ["train" if recipe.self_training is None else "self-train", "--resume", "--output", str(folder)]
        for option, value in options.items():
            if value not in {None, "auto", "fp32", "1"}:
                command += [option, str(value)]
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
        self._report, self._facts = (
            report,
            (left, f"loss {report.loss:#.4g}", speed, f"lr {report.lr:.1e}", terms, memory),
        )
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
        stdout.print(
            scores_table(scores, recipe.paper, split, title=f"{recipe.name} after {recipe.train.iterations} steps")
        )
    stdout.print(f"Model: {result.model}")
    if json_file is not None:
        write_json(
            json_file, {"model": str(result.model), "split": split, "scores": scores.to_dict() if scores else None}
        )


def _validation_line(scores: scoring.Scores) -> str:
    parts = [f"mIoU {100 * scores.miou:.1f}"]
    if scores.unseen:
        parts += [
            f"seen {100 * scores.miou_seen:.1f}",
            f"unseen {100 * scores.miou_unseen:.1f}",
            f"hIoU {100 * scores.hiou:.1f}",
        ]
    return "  ".join([*parts, f"pixel accuracy {100 * scores.pixel_accuracy:.1f}"])
