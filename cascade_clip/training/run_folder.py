"""The folder of a run: resolved recipe, environment, metrics, states, checkpoints (DESIGN 4.4)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from cascade_clip.config.recipes import dump_toml, load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.data.dataset_info import INFO_FILE
from cascade_clip.errors import UserError

STATES_KEPT = 2
_PACKAGES = ("cascade-clip", "torch", "torchvision", "open_clip_torch", "accelerate", "numpy", "pillow", "safetensors")


class RunFolder:
    """Where everything of one run lies."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is made or read yet."""
        self.folder = folder

    @property
    def recipe_file(self) -> Path:
        """The fully resolved recipe."""
        return self.folder / "recipe.toml"

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line: training lines, and validation lines under `validation`."""
        return self.folder / "metrics.jsonl"

    @property
    def pictures(self) -> Path:
        """Curves of the metrics, and sheets of validation images `validation-N.jpg` after N steps."""
        return self.folder / "pictures"

    @property
    def model(self) -> Path:
        """The checkpoint after the last step."""
        return self.folder / "model"

    @property
    def best_model(self) -> Path:
        """The checkpoint of the best validation, judged on seen classes."""
        return self.folder / "model-best"

    @property
    def half_way_model(self) -> Path:
        """The checkpoint after half of the steps, which released self-training starts from (SPEC section 11)."""
        return self.folder / "model-half"

    @property
    def start_model(self) -> Path:
        """The checkpoint that self-training started from, kept so that resuming depends on nothing outside."""
        return self.folder / "model-start"

    @property
    def states(self) -> Path:
        """Folders `step-N` that resuming starts from."""
        return self.folder / "state"

    @property
    def features(self) -> Path:
        """What a frozen encoder made of the crops, until the run ends (`train.cache_features`)."""
        return self.folder / "features"

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
            raise UserError(f'"{self.folder}" is not empty and no run: choose another --output.')
        for name in ("state", "model", "model-best", "model-half", "model-start", "pictures", "features"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.metrics_file.write_text("", encoding="utf-8")
        (self.folder / "eval.json").unlink(missing_ok=True)
        (self.folder / "environment.json").write_text(
            json.dumps(_environment(dataset), indent=2) + "\n", encoding="utf-8"
        )
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
        return load_recipe(str(self.recipe_file))

    def log(self, values: Mapping[str, Any]) -> None:
        """Append a line to the metrics."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def log_entries(self) -> list[dict[str, Any]]:
        """Lines of the metrics, without one that was cut off; none before the first."""
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
        """The newest complete state; none before the first."""
        complete = sorted(self.states.glob("step-*")) if self.states.exists() else []
        return complete[-1] if complete else None

    def prune_states(self) -> None:
        """Keep the newest states and drop what an interrupted save left."""
        for old in sorted(self.states.glob("step-*"))[:-STATES_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        for partial in self.states.glob(".step-*"):
            shutil.rmtree(partial, ignore_errors=True)


def _environment(dataset: Path) -> dict[str, Any]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    cuda = (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda_devices": cuda,
        "git_commit": _git_commit(),
        "dataset": str(dataset),
        "dataset_sha256": hashlib.sha256((dataset / INFO_FILE).read_bytes()).hexdigest(),
    }


def _git_commit() -> str | None:
    """Commit of the source tree this package runs from; none for an installed one."""
    here = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
