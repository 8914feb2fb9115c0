"""The verb: train a model from its recipe to the end, inductive or self-training; what else may end a run."""

import errno
import json
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from safetensors import SafetensorError

from cascade_clip.checkpoint.description import CONFIG, read_config
from cascade_clip.checkpoint.folder import checkpoint_folder
from cascade_clip.config.recipes import change_recipe, load_recipe
from cascade_clip.config.schema import Recipe, SelfTrainingConfig
from cascade_clip.data.catalogue import Split, find_benchmark, get_split
from cascade_clip.errors import UserError
from cascade_clip.evaluation.scores import Scores
from cascade_clip.progress import Doing, unheard
from cascade_clip.training.loop import OnStep
from cascade_clip.training.meter import Watch
from cascade_clip.training.run_folder import RunFolder
from cascade_clip.training.start import start_training

logger = logging.getLogger(__name__)
SUFFIX, FINE_TUNED = "-self-training", "-fine-tuned"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SAFETENSORS = re.compile(rf"os error ({'|'.join(map(str, sorted(_NO_ROOM)))})\b")
# PyTorch's archive writer does not pass on the system's reason.
_PYTORCH = re.compile(r"PytorchStreamWriter failed|inline_container\.cc|unexpected pos \d+ vs \d+")


@dataclass(frozen=True)
class TrainingResult:
    """What `train` returns.

    Attributes:
        recipe: The resolved recipe of the run.
        split: The split that was trained on.
        steps: Steps done, of `recipe.train.iterations`.
        scores: Scores after the last step; None where the dataset has no validation part or the run is not finished.
        folder: The run's folder, see `RunFolder` for what lies in it.
        model: Checkpoint folder of the last step, for `CascadeCLIP.from_pretrained`; None where the run is not
            finished.
        is_main_process: Whether this process is the one that writes and shows results; one of several is.
    """

    recipe: Recipe
    split: Split
    steps: int
    scores: Scores | None
    folder: Path
    model: Path | None
    is_main_process: bool


def train(
    recipe: Recipe | None,
    output: str | Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    resume: bool = False,
    overwrite: bool = False,
    track: str | None = None,
    watch: Watch | None = None,
    doing: Doing = unheard,
    steps: int | None = None,
    on_step: OnStep | None = None,
    changes: Sequence[str] = (),
) -> TrainingResult:
    """Train a model on the classes of a split that have labels, and score it on the validation images.

    A recipe with a section `self_training` trains on from a checkpoint with pseudo labels for the unseen classes
    (`recipe_for_self_training` derives one). Under `accelerate launch` or torch's elastic launch each process calls
    this alike; the batch is split over them. Recipe, seed, precision, device and number of processes decide the
    weights: each process draws dropout masks of its own; without dropout two differ from one by rounding (at most 1e-3
    after 30 steps).

    Args:
        recipe: What to train, see `load_recipe`; None with `resume`, where the run folder's own recipe counts.
        output: The run's folder: recipe, environment, metrics, pictures, states and models (cascade_clip/README.md,
            section 4.4).
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; with several processes each takes its own CUDA device.
        precision: `fp32`, `bf16` or `fp16` of the network's products; weights stay fp32.
        resume: Continue the run that lies in `output`, with as many processes, to the same weights as an uninterrupted
            run.
        overwrite: Replace the run that lies in `output`.
        track: An experiment tracker that Accelerate knows, one of `cascade_clip.training.start.TRACKERS`.
        watch: Called on the main process after every step with a `TrainReport`: loss, rate, speed, scores.
        doing: Called in every process with what it does besides steps: "loading CLIP ViT-B-16-quickgelu".
        steps: Stop after so many steps of this call and save the state, so that `resume` continues from there. The
            learning rate still follows `recipe.train.iterations`, which is when the run is finished. None: no limit.
        on_step: Called in every process with the number of steps done, right after the weights were changed and before
            anything is logged, validated or saved.
        changes: With `resume`, other values from here on, `section.key=value` each, for keys in
            `cascade_clip.training.state.CHANGEABLE`. `train.iterations=N` prolongs the run, also a finished one: from
            the next step on the learning rate is that of a run of N steps, so that it rises again.

    Returns:
        Scores, and where the run and its model lie.

    Raises:
        UserError: An unknown split, device, precision or tracker, no dataset, a run in `output` already or none to
            resume, a change that a run does not take, a recipe that does not fit CLIP or the dataset, a loss that is
            not finite, a killed loader process or a full disk. Nothing is written where the mistake is found before
            the first step.
        KeyboardInterrupt: Ctrl-C, once the step is finished and its state saved; at once when it comes again.

    Example:
        >>> from cascade_clip import load_recipe, train
        >>> quick = ["train.iterations=1", "train.batch=2", "train.workers=0", "data.dataset='prepared/shapes'"]
        >>> result = train(load_recipe("shapes/cascade-zegclip", quick), "runs/mine", device="cpu")
        >>> str(result.model)
        'runs/mine/model'
    """
    with explained_full_disk(RunFolder(Path(output))):
        trainer = start_training(
            recipe,
            Path(output),
            device=device,
            precision=precision,
            resume=resume,
            overwrite=overwrite,
            track=track,
            watch=watch,
            doing=doing,
            changes=changes,
        )
        try:
            with interruption_after_step() as asked_to_stop:
                scores = trainer.train(resume=resume, steps=steps, on_step=on_step, asked_to_stop=asked_to_stop)
                if not trainer.finished:
                    trainer.save_state()
            trainer.accelerator.end_training()
        finally:
            trainer.run.release()
    return TrainingResult(
        trainer.recipe,
        trainer.split,
        trainer.state.step,
        scores,
        trainer.run.folder,
        trainer.run.model if trainer.finished else None,
        trainer.accelerator.is_main_process,
    )


@contextmanager
def interruption_after_step() -> Iterator[Callable[[], bool]]:
    """Keep SIGINT and SIGTERM until the block ends, and raise them again then; a second one acts at once.

    Signals that are ignored stay ignored. In other threads than the main one, which get no signals, nothing is kept.

    Yields what the block asks after each step: whether a signal came.
    """
    kept: list[int] = []
    earlier: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    def keep(number: int, _frame: FrameType | None) -> None:
        kept.append(number)
        restore()
        if os.environ.get("RANK", "0") == "0":
            logger.warning("Stopping: this step is finished first, and its state saved.")

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if (handler := signal.getsignal(number)) not in {signal.SIG_IGN, None}:
                earlier[number] = handler
                signal.signal(number, keep)
    try:
        yield lambda: bool(kept)
    finally:
        restore()
    if kept:
        signal.raise_signal(kept[0])


@contextmanager
def explained_full_disk(run: RunFolder) -> Iterator[None]:
    """Around everything that writes into a run's folder: says in a `UserError` that the disk is full.

    The states that were saved before are as they were.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if not _is_full_disk(error):
            raise
        place = Path(str(error.filename)) if isinstance(error, OSError) and error.filename else run.folder
        kept = run.latest_state()
        if not run.recipe_file.exists():
            way_out = "Free some space and repeat the command"
        elif kept is None:
            way_out = "Free some space, then begin again with --resume"
        else:
            way_out = f"Free some space, then continue from {kept.name} with --resume"
        raise UserError(f'The disk is full: "{place}" could not be written. {way_out}.') from error


def _is_full_disk(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return bool((_SAFETENSORS if isinstance(error, SafetensorError) else _PYTORCH).search(str(error)))


def recipe_for_fine_tuning(
    init: str | Path, recipe: str | None, schedule: str, overrides: Sequence[str] = ()
) -> Recipe:
    """Derive the recipe of a run that starts from a checkpoint's weights, on whatever classes and data.

    Args:
        init: `bundled`, a checkpoint folder, or `ORG/NAME` on the Hub.
        recipe: A recipe's name or file, whose model may differ in parts; None: model, CLIP, images, text and inference
            are those of the checkpoint.
        schedule: Recipe of the data, whose training, validation and seed are taken where `recipe` is None.
        overrides: `section.key=value` each, on top of everything.

    Raises UserError for no checkpoint, no such recipe, or values that do not fit.
    """
    folder = checkpoint_folder(init)
    if recipe is not None:
        base = load_recipe(recipe)
    else:
        own, train_like = read_config(folder).recipe, load_recipe(schedule)
        places = train_like.data.model_dump(include={"dataset", "split", "stream"})
        schedule_of = {key: getattr(train_like, key) for key in ("train", "evaluation", "seed")}
        name = own.name.removesuffix(FINE_TUNED) + FINE_TUNED
        base = own.changed(name=name, data=places, paper=None, self_training=None, **schedule_of)
    return change_recipe(base, [*overrides, f"train.init={json.dumps(_lasting(init, folder))}"])


def recipe_for_self_training(
    init: str | Path, recipe: str | None = None, overrides: Sequence[str] = (), *, settings: Sequence[str] = ()
) -> Recipe:
    """Derive the recipe of a self-training run from the checkpoint that it starts from (SPEC section 11).

    Args:
        init: A checkpoint folder or `ORG/NAME` on the Hub; as released, the `model-half` of an inductive run.
        recipe: A recipe's name or file, of either kind; None: the checkpoint's own. An inductive one gives
            self-training's schedule as released: half its steps, twice its batch on VOC.
        overrides: `section.key=value` each, on top of everything.
        settings: The same, put on the recipe before the schedule is derived from it, which depends on the dataset.

    Raises UserError for no checkpoint, a run's folder in its place, no such recipe, or values that do not fit.
    """
    folder = checkpoint_folder(init)
    half_way = RunFolder(folder).half_way_model
    if not (folder / CONFIG).exists() and half_way.is_dir():
        raise UserError(
            f'"{init}" is the folder of a run. Released self-training starts from its half-way checkpoint: --init'
            f" {half_way}."
        )
    own = read_config(folder).recipe
    base = load_recipe(recipe, settings) if recipe else change_recipe(own, settings)
    return change_recipe(
        as_self_training(base), [*overrides, f"self_training.init={json.dumps(_lasting(init, folder))}"]
    )


def self_training_recipe(inductive: Recipe, config: SelfTrainingConfig | None = None) -> Recipe:
    """Derive self-training's own schedule as released: half the steps, VOC's larger batch, no bias at inference.

    `config` names teacher, threshold and location; None: as released.
    """
    dataset = get_split(inductive.data.split).dataset if inductive.data.split else None
    facts = find_benchmark(dataset)
    train, paper = inductive.train, inductive.paper
    schedule = {
        "iterations": max(1, train.iterations // 2),
        "batch": train.batch * (facts.self_training_batch_factor if facts else 1),
    }
    return inductive.changed(
        name=f"{inductive.name}{SUFFIX}",
        # A figure of inductive training would stand beside the wrong result.
        paper=paper if paper is not None and paper.table.endswith("/transductive") else None,
        train=schedule,
        self_training=config or SelfTrainingConfig(),
        inference={"seen_bias": 0.0},
    )


def as_self_training(recipe: Recipe) -> Recipe:
    """Take a recipe of either kind for self-training.

    One that has a section `self_training` keeps its schedule, and takes no bias from seen classes unless it says so.
    """
    if recipe.self_training is None:
        return self_training_recipe(recipe)
    if "seen_bias" in recipe.inference.model_fields_set:
        return recipe
    return recipe.changed(inference={"seen_bias": 0.0})


def _lasting(init: str | Path, folder: Path) -> str:
    """A checkpoint's whole path, as a run is resumed from any working folder; other names as they are."""
    return str(folder.resolve()) if Path(init).expanduser().exists() else str(init)
