"""The folder of a run: recipe, environment, metrics, models, and the states that resuming starts from.

See cascade_clip/README.md, section 4.4.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cascade_clip.config.recipes import dump_toml, load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.data.dataset_info import INFO_FILE
from cascade_clip.errors import UserError
from cascade_clip.model.network import CascadeNetwork

STATES_KEPT = 2
PROGRESS = "progress.json"
MODEL = "model.safetensors"
TEACHER = "teacher.safetensors"
_PACKAGES = ("cascade-clip", "torch", "torchvision", "open_clip_torch", "accelerate", "numpy", "pillow", "safetensors")


class RunFolder:
    """Where everything of one run lies.

    Attributes:
        folder: The run's folder.
        recipe_file: The fully resolved recipe.
        metrics_file: One JSON object a line: training lines, and validation lines under `validation`.
        pictures: Curves of the metrics, and sheets of validation images.
        model: The checkpoint after the last step.
        best_model: The checkpoint of the best validation, judged on seen classes.
        half_way_model: The checkpoint after half of the steps, from which released self-training starts (SPEC section
            11).
        start_model: The checkpoint that self-training started from, kept so that resuming depends on nothing outside.
        states: Folders `step-N` that resuming starts from.
    """

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is made or read yet."""
        self.folder = folder
        self.recipe_file = folder / "recipe.toml"
        self.metrics_file = folder / "metrics.jsonl"
        self.pictures = folder / "pictures"
        self.model = folder / "model"
        self.best_model = folder / "model-best"
        self.half_way_model = folder / "model-half"
        self.start_model = folder / "model-start"
        self.states = folder / "state"

    def start(self, recipe: Recipe, dataset: Path, *, overwrite: bool = False) -> None:
        """Make the folder of a new run.

        Raises:
            UserError: A run lies there already and `overwrite` is off.
        """
        if self.recipe_file.exists() and not overwrite:
            raise UserError(
                f'A run lies in "{self.folder}" already: continue it with --resume, start it anew with --overwrite, or'
                " choose another --output."
            )
        if self.folder.exists() and not self.recipe_file.exists() and any(self.folder.iterdir()):
            raise UserError(f'"{self.folder}" is not empty and holds no run: choose another --output.')
        models = (self.model, self.best_model, self.half_way_model, self.start_model)
        for earlier in (self.states, *models, self.pictures):
            shutil.rmtree(earlier, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.metrics_file.write_text("", encoding="utf-8")
        (self.folder / "eval.json").unlink(missing_ok=True)
        environment = json.dumps(_environment(dataset), indent=2)
        (self.folder / "environment.json").write_text(f"{environment}\n", encoding="utf-8")
        self.recipe_file.write_text(dump_toml(recipe), encoding="utf-8")

    def recipe(self) -> Recipe:
        """The recipe of the run that lies here.

        Raises:
            UserError: No run lies here.
        """
        if not self.recipe_file.exists():
            raise UserError(
                f'No run lies in "{self.folder}", so there is nothing to resume: start it without --resume.'
            )
        return load_recipe(str(self.recipe_file), stored=True)

    def log(self, values: Mapping[str, Any]) -> None:
        """Append a line to the metrics."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def log_entries(self) -> list[dict[str, Any]]:
        """Lines of the metrics, without one that was cut off; empty before the first."""
        entries = []
        for line in self.metrics_file.read_text(encoding="utf-8").splitlines() if self.metrics_file.exists() else []:
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
        return entries

    def forget_after(self, step: int) -> None:
        """Drop metrics and pictures of later steps, which a resumed run makes again, and a line that was cut off."""
        kept = [entry for entry in self.log_entries() if entry.get("step", 0) <= step]
        self.metrics_file.write_text("".join(f"{json.dumps(entry)}\n" for entry in kept), encoding="utf-8")
        for sheet in self.pictures.glob("validation-*.jpg"):
            number = sheet.stem.rpartition("-")[2]
            if number.isdigit() and int(number) > step:
                sheet.unlink(missing_ok=True)

    def validation_sheet(self, step: int) -> Path:
        """The validation images' predictions after `step` steps."""
        return self.pictures / f"validation-{step:06d}.jpg"

    def state_folder(self, step: int) -> Path:
        """Folder of the state after `step` steps."""
        return self.states / f"step-{step:08d}"

    def latest_state(self) -> Path | None:
        """The newest complete state; None before the first."""
        complete = sorted(self.states.glob("step-*")) if self.states.exists() else []
        return complete[-1] if complete else None

    def prune_states(self) -> None:
        """Keep the newest states and drop what an interrupted save left."""
        for old in sorted(self.states.glob("step-*"))[:-STATES_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        for partial in self.states.glob(".step-*"):
            shutil.rmtree(partial, ignore_errors=True)


@dataclass
class TrainState:
    """How far a run is.

    Attributes:
        step: Optimiser steps done; it also is the position in the stream of samples.
        best: Best validation score so far (fraction); None before the first.
        processes: Processes that the random states belong to.
    """

    step: int = 0
    best: float | None = None
    processes: int = 1


def keep_clip_out(accelerator: Accelerator) -> None:
    """Make Accelerate save and load only what is not CLIP's own: the frozen towers are large and never change."""

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
    # An earlier call for this step may still be at its last lines in the main process.
    accelerator.wait_for_everyone()
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
                f"The run was trained by {state.processes} processes, whose random states do not fit"
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


def _environment(dataset: Path) -> dict[str, Any]:
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: _version(package) for package in _PACKAGES},
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda_devices": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "git_commit": _git_commit(),
        "dataset": str(dataset),
        "dataset_sha256": hashlib.sha256((dataset / INFO_FILE).read_bytes()).hexdigest(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git_commit() -> str | None:
    """Commit of the source tree this package runs from; None for an installed one."""
    command, here = ["git", "rev-parse", "HEAD"], Path(__file__).resolve().parent
    try:
        answer = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
