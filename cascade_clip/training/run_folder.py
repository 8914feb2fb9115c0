"""The folder of a run: what it holds, how it begins, and what it must not be resumed with.

See cascade_clip/README.md, section 4.4.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import BaseFileLock

from cascade_clip import faster_linear
from cascade_clip.checkpoint.description import CONFIG, hash_of_settings, read_config
from cascade_clip.config.recipes import dump_toml, load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import Split
from cascade_clip.data.dataset_info import INFO_FILE, read_dataset_info
from cascade_clip.errors import UserError, reason_of
from cascade_clip.files import delete, json_text, write_files
from cascade_clip.output_folder import FolderKind, drop_replaced, lock_file, record_has, replaced_place, take_lock
from cascade_clip.runtime import package_version

logger = logging.getLogger(__name__)
STATES_KEPT = 2
LATEST_SHEET = "latest.jpg"
"""Of the pictures that were drawn because the last ones were old; the next of these replaces it."""
_RUN = FolderKind(
    "run",
    "environment.json",
    frozenset({"dataset_sha256"}),
    (
        *("recipe.toml", "environment.json", "metrics.jsonl", "eval.json", "state", "pictures", "track"),
        *("model", "model-half", "model-best", "model-start", ".model-*", ".step-*"),
    ),
)
_START_ENTRIES = {"environment.json", "metrics.jsonl", "model-start"}
"""What a start writes before the recipe."""
_PACKAGES = ("cascade-clip", "torch", "torchvision", "open_clip_torch", "accelerate", "numpy", "pillow", "safetensors")


class RunFolder:
    """Where everything of one run lies.

    `metrics_file` has a JSON object a line: training lines, and validation lines under `validation`. Of the
    checkpoints, `model` is that after the last step, `best_model` of the best validation, judged on seen classes,
    `half_way_model` that from which released self-training starts (SPEC section 11), and `start_model` the one that
    training started from, kept so that resuming depends on nothing outside.
    """

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is made or read yet."""
        self.folder = folder
        self.recipe_file = folder / "recipe.toml"
        self.environment_file = folder / "environment.json"
        self.metrics_file = folder / "metrics.jsonl"
        self.pictures = folder / "pictures"
        self.model = folder / "model"
        self.best_model = folder / "model-best"
        self.half_way_model = folder / "model-half"
        self.start_model = folder / "model-start"
        self.states = folder / "state"
        self._lock: BaseFileLock | None = None

    def start(
        self,
        recipe: Recipe,
        dataset: Path,
        split: Split,
        *,
        loader_processes: int = 0,
        clip_sha256: str | None = None,
        precision: str = "fp32",
        overwrite: bool = False,
        before: Callable[[], None] | None = None,
    ) -> None:
        """Make the folder of a new run, in which dataset, split, loader processes, precision and CLIP's hash are
        recorded.

        The recipe is written last: a folder without one is a start that was interrupted, and is begun anew. Under
        `overwrite` an earlier run is moved aside in one rename and deleted when the new one has begun; files in it that
        no run writes are kept. `dataset` is the folder that holds `dataset.json`; `before` writes what else belongs to
        the start. Raises as `check_free`.
        """
        self.check_free(overwrite=overwrite)
        place = self.folder.absolute()
        if self.recipe_file.exists() and self.environment_file.exists():
            drop_replaced(place, _RUN)
            place.rename(replaced_place(place))
        elif self.folder.exists():
            for entry in self.folder.iterdir():
                delete(entry)
        chosen = {"clip_sha256": clip_sha256, "loader_processes": loader_processes, "precision": precision}
        record = json_text(_environment(dataset, split) | chosen)
        write_files({self.environment_file: record.encode(), self.metrics_file: b""})
        if before is not None:
            before()
        write_files({self.recipe_file: dump_toml(recipe).encode()})
        drop_replaced(place, _RUN)

    def check_free(self, *, overwrite: bool = False) -> None:
        """Check that a run can begin in the folder; nothing is changed yet.

        Raises:
            UserError: A run lies there and `overwrite` is off, or other files do, or the working folder lies in it.
        """
        if not (self.recipe_file.exists() and self.environment_file.exists()):
            # These names are common ones: an environment.json of another program is no start of a run.
            own = _START_ENTRIES if record_has(self.environment_file, _RUN.keys) else set()
            names = sorted(entry.name for entry in self.folder.iterdir()) if self.folder.exists() else []
            if foreign := [name for name in names if name not in own and not _is_partial(name)]:
                raise UserError(
                    f'"{self.folder}" is not empty and holds no run (there is "{foreign[0]}"): choose another --output.'
                )
            return
        if not overwrite:
            raise UserError(
                f'A run lies in "{self.folder}" already: continue it with --resume, start it anew with --overwrite, or'
                " choose another --output."
            )
        if Path.cwd().is_relative_to(self.folder.resolve()):
            raise UserError(f'"{self.folder}" contains the working folder and cannot be replaced: go to another one.')

    def _begun_with(self) -> dict[str, Any]:
        """What environment.json holds; empty where it is missing or cannot be read."""
        try:
            begun = json.loads(self.environment_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return begun if isinstance(begun, dict) else {}

    def hold(self) -> None:
        """Keep other processes of this machine from training in the folder, until `release` or this process ends.

        Raises UserError where one does so already.
        """
        place = lock_file(self.folder)
        try:
            self._lock = take_lock(
                place, f'Another process is training in "{self.folder}": wait for it, or stop it first.'
            )
        except OSError as error:
            logger.warning("The run is not locked, as %s cannot be written: %s", place, reason_of(error))

    def release(self) -> None:
        """Let other processes train in the folder."""
        if self._lock is not None:
            self._lock.release()

    def linear_library(self) -> str:
        """What computed the run's linear layers, see `faster_linear`; a resumed run goes on with it, bit for bit."""
        recorded = self._begun_with().get("linear_layers")
        # Earlier versions knew PyTorch's own only.
        return str(recorded) if recorded in faster_linear.LIBRARIES else "torch"

    def check_unchanged(
        self, dataset: Path, split: Split, place: str, clip_sha256: str, precision: str = "fp32"
    ) -> None:
        """Refuse a dataset, split or CLIP that is not what the run began with; messages call the dataset `place`.

        Another precision gets a warning. A dataset that was prepared again is the same one, whichever version of the
        toolkit did so, while its classes, counts, sources and shards are, and its images and masks where both record
        their hash.
        """
        begun = self._begun_with()
        if not begun:
            logger.warning("%s is missing or damaged: dataset, split and CLIP are not compared.", self.environment_file)
        now = _origin(dataset, split)
        # Runs of earlier versions recorded the whole file, the tool's version in it too.
        key = "dataset_content_sha256" if "dataset_content_sha256" in begun else "dataset_sha256"
        if any(_differ(compared, begun, now) for compared in (key, "images_sha256")):
            raise UserError(
                f'The dataset {place} is not the one that the run in "{self.folder}" began with: its dataset.json names'
                " other classes, images, masks or shards. Put the earlier dataset there again, or start a new run."
            )
        used = ("split", "classes", *(("prompts",) if self.recipe().text.readable else ()))
        if changed := next((compared for compared in used if _differ(compared, begun, now)), None):
            what = "its prompts" if changed == "prompts" else "its classes, or which of them are unseen,"
            raise UserError(
                f'The split "{split.name}" is not what the run in "{self.folder}" began with: '
                f"{what} have changed. Put the earlier split back, or start a new run."
            )
        if (begun.get("clip_sha256") or self._clip_of_models() or clip_sha256) != clip_sha256:
            raise UserError(
                f'CLIP\'s weights are not those that the run in "{self.folder}" began with: put the earlier file back,'
                " use the toolkit's version that began it, or start a new run."
            )
        if (was := begun.get("precision", precision)) != precision:
            logger.warning("The run began with --precision %s and goes on with %s.", was, precision)

    def _clip_of_models(self) -> str | None:
        """Hash of CLIP's weights by a model of the run, as earlier versions recorded it nowhere else."""
        for folder in (self.half_way_model, self.best_model, self.model):
            if (folder / CONFIG).is_file():
                return read_config(folder).clip.sha256
        return None

    def recipe(self) -> Recipe:
        """The recipe of the run that lies here; a `UserError` where none does."""
        if not self.recipe_file.exists():
            raise UserError(
                f'No run lies in "{self.folder}", so there is nothing to resume: start it without --resume.'
            )
        return load_recipe(str(self.recipe_file), stored=True)

    def record_changes(self, recipe: Recipe, step: int, changed: Mapping[str, tuple[Any, Any]]) -> None:
        """Write the recipe of a run that goes on with other values, and under `changes` of environment.json which.

        `changed` holds the values before and now, by key; `step` is the number of steps done before.
        """
        record = {"step": step, "changed": {key: list(values) for key, values in changed.items()}}
        begun, contents = self._begun_with(), {self.recipe_file: dump_toml(recipe).encode()}
        if begun and record not in begun.get("changes", []):
            begun["changes"] = [*begun.get("changes", []), record]
            contents[self.environment_file] = json_text(begun).encode()
        write_files(contents)

    def log(self, values: Mapping[str, Any]) -> None:
        """Append a line to the metrics."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json_text(values, indent=None))

    def log_entries(self) -> list[dict[str, Any]]:
        """Lines of the metrics, without one that was cut off; empty before the first."""
        entries = []
        for line in self.metrics_file.read_text(encoding="utf-8").splitlines() if self.metrics_file.exists() else []:
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
        return entries

    def has_validation(self, step: int) -> bool:
        """Whether the metrics hold the validation after `step` steps."""
        return any("validation" in entry and entry.get("step") == step for entry in self.log_entries())

    def forget_after(self, step: int) -> None:
        """Drop metrics and pictures of later steps, which a resumed run makes again, and a line that was cut off."""
        kept = [entry for entry in self.log_entries() if entry.get("step", 0) <= step]
        write_files({self.metrics_file: "".join(json_text(entry, indent=None) for entry in kept).encode()})
        for sheet in self.pictures.glob("validation-*.jpg"):
            number = sheet.stem.rpartition("-")[2]
            if number.isdigit() and int(number) > step:
                sheet.unlink(missing_ok=True)

    def state_folder(self, step: int) -> Path:
        """Folder of the state after `step` steps."""
        return self.states / f"step-{step:08d}"

    def saved_states(self) -> list[Path]:
        """The complete states, oldest first."""
        return sorted(self.states.glob("step-*")) if self.states.exists() else []

    def latest_state(self) -> Path | None:
        """The newest complete state; None before the first."""
        saved = self.saved_states()
        return saved[-1] if saved else None

    @property
    def steps_kept(self) -> int:
        """Steps that are done and saved, from which the run is resumed."""
        newest = self.latest_state()
        return 0 if newest is None else int(newest.name.rpartition("-")[2])

    def prune_states(self) -> None:
        """Keep the newest states."""
        for old in self.saved_states()[:-STATES_KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def drop_interrupted(self) -> None:
        """Delete what a killed process left of what it was writing or deleting; nothing else may write meanwhile."""
        drop_replaced(self.folder.absolute(), _RUN)
        for folder in (self.folder, self.pictures, self.states):
            for entry in [*folder.iterdir()] if folder.is_dir() else []:
                if _is_partial(entry.name):
                    delete(entry)
        self.prune_states()


def _is_partial(name: str) -> bool:
    """Whether a file or folder is one that an interrupted write left."""
    return name.startswith(".") and (name.endswith(".part") or name.startswith((".model-", ".step-")))


def _environment(dataset: Path, split: Split) -> dict[str, Any]:
    """The record of a run that begins now; `dataset` is the folder of a dataset."""
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: package_version(package) for package in _PACKAGES},
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "linear_layers": faster_linear.library(),
        "cuda_devices": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "git_commit": _git_commit(),
        "dataset": str(dataset),
        **_origin(dataset, split),
    }


def _differ(key: str, begun: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two records say something else; those of earlier versions lack some keys."""
    return None not in (begun.get(key), now[key]) and begun[key] != now[key]


def _origin(dataset: Path, split: Split) -> dict[str, Any]:
    """What a run is trained on, as its record names it and resuming compares it."""
    info = read_dataset_info(dataset)
    content = info.model_dump(mode="json", include={"classes", "ignore", "sources", "parts"})
    return {
        "dataset_sha256": hashlib.sha256((dataset / INFO_FILE).read_bytes()).hexdigest(),
        "dataset_content_sha256": hash_of_settings(content),
        "images_sha256": info.content_sha256,
        "split": split.name,
        "prompts": list(split.prompts),
        "classes": {"names": list(split.class_names), "unseen": sorted(split.unseen)},
    }


def _git_commit() -> str | None:
    """Commit of the source tree this package runs from; None for an installed one."""
    command, here = ["git", "rev-parse", "HEAD"], Path(__file__).resolve().parent
    try:
        answer = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
