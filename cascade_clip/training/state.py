"""Saving and loading what resuming needs: own tensors, optimiser, random states, position in the data."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cascade_clip.errors import UserError
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.training.run_folder import RunFolder

PROGRESS = "progress.json"
MODEL = "model.safetensors"
TEACHER = "teacher.safetensors"


@dataclass
class TrainState:
    """How far a run is.

    Attributes:
        step: Optimiser steps done; it also is the position in the stream of samples.
        best: Best validation score so far (fraction), none before the first.
        processes: Processes that the random states belong to.
    """

    step: int = 0
    best: float | None = None
    processes: int = 1


def keep_clip_out(accelerator: Accelerator) -> None:
    """Save and load only what is not CLIP's own: the frozen towers are hundreds of megabytes that never change."""

    def trim(models: list[nn.Module], weights: list[dict[str, Tensor]], _folder: str) -> None:
        for model, state in zip(models, weights, strict=True):
            kept = _network(accelerator, model).own_tensors().keys()
            prefix = "module." if any(name.startswith("module.") for name in state) else ""
            for name in list(state):
                if name.removeprefix(prefix) not in kept:
                    del state[name]

    def load(models: list[nn.Module], folder: str) -> None:
        while models:
            network = _network(accelerator, models.pop())
            tensors = load_file(Path(folder) / MODEL)
            network.load_own_tensors({name.removeprefix("module."): tensor for name, tensor in tensors.items()})

    accelerator.register_save_state_pre_hook(trim)
    accelerator.register_load_state_pre_hook(load)


def save_state(
    accelerator: Accelerator, run: RunFolder, state: TrainState, teacher: CascadeNetwork | None = None
) -> None:
    """Write the state after `state.step` steps; an interrupted write leaves the earlier states as they are.

    Args:
        accelerator: Holds network, optimiser and random states.
        run: Where to write.
        state: How far the run is.
        teacher: A network beside the one that trains which changes with it.
    """
    final = run.state_folder(state.step)
    if final.exists():
        return
    partial = final.with_name(f".{final.name}")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if teacher is not None:
            save_file({name: t.cpu().contiguous() for name, t in teacher.own_tensors().items()}, partial / TEACHER)
        (partial / PROGRESS).write_text(json.dumps(asdict(state)), encoding="utf-8")
        partial.rename(final)
        run.prune_states()


def load_state(accelerator: Accelerator, run: RunFolder, teacher: CascadeNetwork | None = None) -> TrainState:
    """Load the newest state; a run that was killed before its first one starts from the beginning.

    Args:
        accelerator: Takes network, optimiser and random states.
        run: Where to look.
        teacher: As for `save_state`.

    Raises:
        UserError: The state was written by another number of processes, or is damaged.
    """
    folder = run.latest_state()
    if folder is None:
        return TrainState(processes=accelerator.num_processes)
    try:
        state = TrainState(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))
        if state.processes != accelerator.num_processes:
            raise UserError(
                f"The run was trained by {state.processes} processes, whose random states cannot be dealt to"
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


def _network(accelerator: Accelerator, model: nn.Module) -> CascadeNetwork:
    network = accelerator.unwrap_model(model)
    if not isinstance(network, CascadeNetwork):
        raise TypeError(f"expected a CascadeNetwork, got {type(network).__name__}")
    return network
