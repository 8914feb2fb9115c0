"""States of a run, which resuming starts from, and the changes of its recipe that a run takes as it goes on."""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cascade_clip.checkpoint.description import hash_of_settings
from cascade_clip.config.recipes import change_recipe, changed_keys
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError, counted
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.training.run_folder import RunFolder

logger = logging.getLogger(__name__)
PROGRESS = "progress.json"
MODEL = "model.safetensors"
TEACHER = "teacher.safetensors"
CHANGEABLE = (
    *("train.iterations", "train.save_every", "train.log_every", "train.validate_every", "train.validate_images"),
    *("train.pictures", "train.workers", "train.gradient_checkpointing"),
)
"""Keys of a recipe that may change when its run is continued. The learning rate follows a new length from the next step
on; the others change no weight."""


@dataclass
class TrainState:
    """How far a run is.

    Attributes:
        step: Optimiser steps done; it also is the position in the stream of samples.
        best: Best validation score so far (fraction); None before the first.
        processes: Processes that the random states belong to.
        unlogged: Focal and region term of each step since the last line of the log, which the next line averages.
    """

    step: int = 0
    best: float | None = None
    processes: int = 1
    unlogged: list[tuple[float, float]] = field(default_factory=list)


def keep_clip_out(accelerator: Accelerator) -> None:
    """Make Accelerate save and load only what is not CLIP's own: the frozen towers are large and never change."""

    def trim(models: list[nn.Module], weights: list[dict[str, Tensor]], _folder: str) -> None:
        for model, state in zip(models, weights, strict=True):
            kept = network_of(accelerator, model).own_tensors().keys()
            prefix = "module." if any(name.startswith("module.") for name in state) else ""
            for name in list(state):
                if name.removeprefix(prefix) not in kept:
                    del state[name]

    def load(models: list[nn.Module], folder: str) -> None:
        while models:
            network = network_of(accelerator, models.pop())
            tensors = load_file(Path(folder) / MODEL)
            network.load_own_tensors({name.removeprefix("module."): tensor for name, tensor in tensors.items()})

    accelerator.register_save_state_pre_hook(trim)
    accelerator.register_load_state_pre_hook(load)


def save_state(
    accelerator: Accelerator, run: RunFolder, recipe: Recipe, state: TrainState, teacher: CascadeNetwork | None = None
) -> None:
    """Write the state after `state.step` steps; an interrupted write leaves the earlier states as they are.

    `progress.json` holds the recipe and hashes of all files of the state: what does not agree later is refused.
    `teacher` is a network beside the one that trains which changes with it.
    """
    final = run.state_folder(state.step)
    # An earlier call for this step may still be at its last lines in the main process.
    accelerator.wait_for_everyone()
    if final.exists():
        return
    partial = final.with_name(f".{final.name}")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            if teacher is not None:
                save_file({name: t.cpu().contiguous() for name, t in teacher.own_tensors().items()}, partial / TEACHER)
            files = {path.name: _file_sha256(path) for path in sorted(partial.iterdir())}
            progress = {**asdict(state), "files": files, "recipe": recipe.model_dump(mode="json")}
            record = json.dumps(progress | {"sha256": hash_of_settings(progress)})
            (partial / PROGRESS).write_text(record, encoding="utf-8")
            partial.rename(final)
            run.prune_states()
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def load_state(
    accelerator: Accelerator, run: RunFolder, recipe: Recipe, teacher: CascadeNetwork | None = None
) -> TrainState:
    """Load the newest state; a run that was killed before its first one starts from the beginning.

    UserError: the state was written by another number of processes, or is damaged, or the recipe was changed in another
    key than `CHANGEABLE`.
    """
    folder = run.latest_state()
    if folder is None:
        return TrainState(processes=accelerator.num_processes)
    if damage := _damage(folder):
        sound = [path for path in run.saved_states() if not _damage(path)]
        rest = f"resume from {sound[-1].name}" if sound else "begin again, or start a new run"
        raise UserError(f'The state in "{folder}" is damaged ({damage}): delete that folder to {rest}.')
    progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    _check_recipe(run, recipe)
    try:
        unlogged = [(focal, region) for focal, region in progress.get("unlogged", [])]
        state = TrainState(progress["step"], progress["best"], progress["processes"], unlogged)
        if state.processes != accelerator.num_processes:
            raise UserError(
                f"The run was trained by {counted(state.processes, 'process')}, whose random states do not fit"
                f" {accelerator.num_processes}: resume with --nproc {state.processes}."
            )
        accelerator.load_state(str(folder))
        if teacher is not None:
            teacher.load_own_tensors(load_file(folder / TEACHER))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f'The state in "{folder}" is damaged ({error}): delete that folder to resume from an earlier one.'
        ) from error
    return state


def recipe_to_continue(run: RunFolder, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of the run in a folder, with other values for some keys in `CHANGEABLE`; nothing is written.

    `overrides` are `section.key=value` each. Raises UserError where no run lies there, another key would change, or the
    run is longer already.
    """
    before = run.recipe()
    recipe = change_recipe(before, overrides)
    changed = changed_keys(before.model_dump(mode="json"), recipe.model_dump(mode="json"))
    if refused := [
        f"{key} is {old} and cannot become {new}" for key, (old, new) in changed.items() if key not in CHANGEABLE
    ]:
        raise UserError(
            f'The run in "{run.folder}" is continued with its own recipe: {"; ".join(refused[:3])}. With --resume only'
            f" {', '.join(CHANGEABLE)} may change; start a new run for other values."
        )
    if recipe.train.iterations < run.steps_kept:
        raise UserError(
            f'{run.steps_kept} steps of the run in "{run.folder}" are done, more than'
            f" train.iterations={recipe.train.iterations}: give at least {run.steps_kept}."
        )
    return recipe


def continue_run(run: RunFolder, recipe: Recipe, state: TrainState, *, is_main_process: bool) -> None:
    """Make the folder that of a run which goes on after `state.step` steps, and record what has changed.

    The changes are found by comparing with the state's recipe, so that they are recorded also where a process was
    killed before it could do so. The best score is forgotten where validation scores other images.
    """
    before = saved_recipe(run) or run.recipe().model_dump(mode="json")
    changed = changed_keys(before, recipe.model_dump(mode="json"))
    changed = {key: values for key, values in changed.items() if key in CHANGEABLE}
    if "train.validate_images" in changed:
        state.best = None
    if not is_main_process:
        return
    run.forget_after(state.step)
    if changed:
        run.record_changes(recipe, state.step, changed)
        listed = ", ".join(f"{key}={new} (was {old})" for key, (old, new) in changed.items())
        logger.info("The run goes on after step %d with %s.", state.step, listed)
    if state.step > recipe.train.iterations // 2 and "train.iterations" in changed:
        kept = "stays as it is" if run.half_way_model.exists() else "is not written"
        logger.warning("Step %d, half of the new length, is past: model-half %s.", recipe.train.iterations // 2, kept)
    if state.step == recipe.train.iterations:
        logger.info("All steps are done. To prolong the run: --resume --set train.iterations=%d", 2 * state.step)


def network_of(accelerator: Accelerator, model: nn.Module) -> CascadeNetwork:
    """The network itself, without Accelerate's wrapper of several processes."""
    network = accelerator.unwrap_model(model)
    if not isinstance(network, CascadeNetwork):
        raise TypeError(f"expected a CascadeNetwork, got {type(network).__name__}")
    return network


def _damage(folder: Path) -> str | None:
    """What is wrong with a state; None: nothing, or it is one of an earlier version, which holds no hashes."""
    try:
        progress = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        step, files, own = progress["step"], progress.get("files"), progress.pop("sha256", None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{PROGRESS} cannot be read: {error}"
    if not isinstance(step, int) or folder.name != f"step-{step:08d}":
        return f"{PROGRESS} is that of step {step}"
    if files is None:
        return None
    if own != hash_of_settings(progress):
        return f"{PROGRESS} was changed"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _file_sha256(path) != expected:
            return f"{name} is not what was saved"
    return None


def saved_recipe(run: RunFolder) -> dict[str, Any] | None:
    """The recipe with which the newest state was written, by its sections; None: there is none, or no state."""
    folder = run.latest_state()
    record = {} if folder is None else json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    return record.get("recipe")


def _check_recipe(run: RunFolder, recipe: Recipe) -> None:
    saved, now = saved_recipe(run), recipe.model_dump(mode="json")
    changed = [
        f"{key} was {old}, is {new}"
        for key, (old, new) in changed_keys(saved or now, now, common=True).items()
        if key not in CHANGEABLE
    ]
    if changed:
        raise UserError(
            f'"{run.recipe_file}" was changed since the run was interrupted ({"; ".join(changed[:3])}): put it back,'
            " or start a new run with the new values."
        )


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
