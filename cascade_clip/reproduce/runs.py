"""One run of a table: what lies in its folder already, and which command brings it further."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_clip.config.recipes import dump_toml, load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.reproduce.table_file import Mode
from cascade_clip.training.run_folder import RunFolder

FIGURES = ("miou_seen", "miou_unseen", "hiou", "pixel_accuracy")
"""What a table shows of each run, in percent."""
_DIFFERENCES_SHOWN = 3


@dataclass(frozen=True)
class Run:
    """A training, or the scoring of a training-free model, that has a folder of its own.

    Attributes:
        title: Row and seed, as progress shows them.
        folder: Run folder (DESIGN 4.4).
        mode: How it is trained.
        recipe: What is trained; none for a training-free model.
        model: The training-free model.
        split: What it is scored on, by name or as a file.
        data: Prepared dataset, where the user named one.
        init: The inductive run whose half-way checkpoint a transductive one starts from.
    """

    title: str
    folder: Path
    mode: Mode
    recipe: Recipe | None
    model: str | None
    split: str
    data: str | None = None
    init: Run | None = None

    @property
    def key(self) -> str:
        """Equal for runs that give the same figures, whatever table and row they stand in."""
        kind = self.mode if self.mode in {"transductive", "training-free"} else "trained"
        return "\n".join([kind, self.split, self.model or settings_of(self.recipe)])

    @property
    def recipe_file(self) -> Path:
        """The recipe that training starts with, beside the folder, which training wants empty."""
        return self.folder.with_name(f"{self.folder.name}.toml")

    @property
    def log(self) -> Path:
        """What the run's commands said."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def lock(self) -> Path:
        """Held by whoever works on the run."""
        return self.folder.with_name(f"{self.folder.name}.lock")

    @property
    def steps(self) -> int:
        """Training steps of the run itself; 0 where nothing is trained."""
        return self.recipe.train.iterations if self.recipe is not None else 0

    @property
    def trained(self) -> bool:
        """Whether the model after the last step lies there."""
        return (RunFolder(self.folder).model / "config.json").is_file()

    @property
    def started(self) -> bool:
        """Whether training has begun."""
        return RunFolder(self.folder).recipe_file.exists()

    @property
    def resumes_at(self) -> int:
        """Steps that need not be done again."""
        state = RunFolder(self.folder).latest_state()
        return int(state.name.rpartition("-")[2]) if state is not None else 0

    def check(self) -> None:
        """See to it that the folder is empty or holds this run.

        Raises:
            UserError: Another run lies there.
        """
        if self.recipe is not None and self.started:
            # Self-training writes down what it started from; what it was given lies beside the folder.
            given = self.recipe_file if self.mode == "transductive" else RunFolder(self.folder).recipe_file
            found = load_recipe(str(given), stored=True)
            if settings_of(found) != settings_of(self.recipe):
                raise UserError(
                    f'"{self.folder}" holds a run with other settings ({_differences(found, self.recipe)}): choose'
                    " another --output, or delete it."
                )
        if self.model is not None:
            record = _read_json(self.folder / "eval.json")
            if self.started or (record and record.get("checkpoint") != self.model):
                raise UserError(
                    f'"{self.folder}" holds another run than the scores of "{self.model}": choose another --output, or'
                    " delete it."
                )

    def figures(self) -> dict[str, float | None] | None:
        """`FIGURES` of the finished run in percent (none where a figure does not exist); none before it is finished."""
        if self.recipe is not None and not self.trained:
            return None
        scores = self._validated() or self._evaluated()
        if scores is None:
            return None
        return {name: None if scores[name] is None else 100 * scores[name] for name in FIGURES}

    def next_command(self) -> tuple[str, ...] | None:
        """Arguments of `cascade-clip` that bring the run further; none when it is finished."""
        if self.figures() is not None:
            return None
        if self.recipe is not None and not self.trained:
            return self._training()
        checkpoint = self.model or str(RunFolder(self.folder).model)
        data = ("--data", self.data) if self.data else ()
        return ("eval", checkpoint, "--split", self.split, *data, "--output", str(self.folder))

    def _training(self) -> tuple[str, ...]:
        command = "self-train" if self.mode == "transductive" else "train"
        if self.started:
            return (command, "--resume", "--output", str(self.folder))
        init = ("--init", str(RunFolder(self.init.folder).half_way_model)) if self.init is not None else ()
        return (command, "--recipe", str(self.recipe_file), *init, "--output", str(self.folder))

    def write_recipe(self) -> None:
        """Write the recipe that training starts with, unless it has started."""
        if self.recipe is not None and not self.started:
            self.recipe_file.parent.mkdir(parents=True, exist_ok=True)
            self.recipe_file.write_text(dump_toml(self.recipe), encoding="utf-8")

    def _validated(self) -> dict[str, Any] | None:
        """Scores of the validation after the last step, where it saw every image of the split that counts."""
        recipe = self.recipe
        if recipe is None or recipe.data.split != self.split or recipe.train.validate_images:
            return None
        return next((entry["validation"] for entry in reversed(log_entries(self)) if "validation" in entry), None)

    def _evaluated(self) -> dict[str, Any] | None:
        """Scores of `eval.json`, where they are of all images, of this split, and made as the recipe says."""
        record = _read_json(self.folder / "eval.json")
        if record is None or record["split"] != get_split(self.split).name:
            return None
        if record["images"] != record["images_of_the_set"]:
            return None
        if self.recipe is not None:
            inference = RunFolder(self.folder).recipe().inference
            if record["inference"] != inference.model_dump(mode="json"):
                return None
        scores: dict[str, Any] = record["scores"]
        return scores


def settings_of(recipe: Recipe | None) -> str:
    """Everything that decides a run's figures, as text: the recipe but for its name and the paper's row."""
    return recipe.model_dump_json(exclude={"name", "paper"}) if recipe is not None else ""


def log_entries(run: Run) -> list[dict[str, Any]]:
    """Whole lines of the run's `metrics.jsonl`."""
    return RunFolder(run.folder).log_entries()


def _read_json(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f'"{file}" is no valid JSON ({error}): delete it.') from error
    return record


def _differences(found: Recipe, planned: Recipe) -> str:
    """The first keys in which two recipes differ, with both values."""
    there, here = (_flat(recipe.model_dump(mode="json", exclude={"name", "paper"})) for recipe in (found, planned))
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    shown = [f"{key}: {there.get(key)} there, {here.get(key)} here" for key in keys[:_DIFFERENCES_SHOWN]]
    return "; ".join(shown) + (f"; {len(keys) - len(shown)} more" if len(keys) > len(shown) else "")


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
