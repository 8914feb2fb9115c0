"""One run of a table: what its folder holds already, and the command that continues it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_clip.config.recipes import changed_keys, dump_toml, load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.reproduce.table_file import Mode
from cascade_clip.training.run_folder import RunFolder

FIGURES = ("miou_seen", "miou_unseen", "hiou", "pixel_accuracy")
"""What a table shows of each run, in percent."""
Figures = dict[str, float | None]
"""A value for each of `FIGURES`; None: the figure does not exist, for example unseen mIoU without unseen classes."""
_DIFFERENCES_SHOWN = 3
_NO_SETTINGS: Any = {"name": True, "paper": True, "train": {"workers"}}


@dataclass(frozen=True)
class Run:
    """A training, or the evaluation of a training-free model, with a folder of its own.

    Attributes:
        title: Row and seed, as progress shows them.
        folder: Run folder (cascade_clip/README.md, section 4.4).
        mode: How it is trained.
        recipe: What is trained; None: a training-free model.
        model: The training-free model; None: `recipe` is trained.
        split: What it is scored on, by name or as a file.
        data: Prepared dataset; None: where the recipe says.
        init: The inductive run whose half-way checkpoint a transductive one starts from; None for all others.
        refine: Whether a training-free model's scores are refined; None: as its method was released.
    """

    title: str
    folder: Path
    mode: Mode
    recipe: Recipe | None
    model: str | None
    split: str
    data: str | None = None
    init: Run | None = None
    refine: bool | None = None

    @property
    def key(self) -> str:
        """Equal for runs that give the same figures, in whichever table and row."""
        kind = self.mode if self.mode in {"transductive", "training-free"} else "trained"
        return "\n".join([kind, self.split, self.model or settings_of(self.recipe), *self._refinement])

    @property
    def recipe_file(self) -> Path:
        """The recipe that training starts with, beside the folder, which must be empty at the start."""
        return self.folder.with_name(f"{self.folder.name}.toml")

    @property
    def log(self) -> Path:
        """Output of the run's commands."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def steps(self) -> int:
        """Training steps of the run itself; 0: nothing is trained."""
        return self.recipe.train.iterations if self.recipe is not None else 0

    @property
    def trained(self) -> bool:
        """Whether the model after the last step is there."""
        return (RunFolder(self.folder).model / "config.json").is_file()

    @property
    def clip_sha256(self) -> str | None:
        """Hash of the weights of CLIP that the trained model stands on; None: there is no model."""
        return (_read_json(RunFolder(self.folder).model / "config.json") or {}).get("clip", {}).get("sha256")

    @property
    def started(self) -> bool:
        """Whether training has begun."""
        return RunFolder(self.folder).recipe_file.exists()

    @property
    def resumes_at(self) -> int:
        """Steps that are done and saved."""
        return RunFolder(self.folder).steps_kept

    def check(self) -> None:
        """Check that the folder is empty or holds this run; raises UserError for another one."""
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

    def figures(self) -> Figures | None:
        """`FIGURES` of the run in percent; None: it is not finished."""
        if self.recipe is not None and not self.trained:
            return None
        scores = self._validated() or self._evaluated()
        if scores is None:
            return None
        return {name: None if scores[name] is None else 100 * scores[name] for name in FIGURES}

    def next_command(self) -> tuple[str, ...] | None:
        """Arguments of the `cascade-clip` command that continues the run; None: it is finished."""
        if self.figures() is not None:
            return None
        if self.recipe is not None and not self.trained:
            command = "self-train" if self.mode == "transductive" else "train"
            init = ("--init", str(RunFolder(self.init.folder).half_way_model)) if self.init is not None else ()
            start = ("--resume",) if self.started else ("--recipe", str(self.recipe_file), *init)
            return (command, *start, "--output", str(self.folder))
        checkpoint = self.model or str(RunFolder(self.folder).model)
        data = ("--data", self.data) if self.data else ()
        return ("eval", checkpoint, "--split", self.split, *data, *self._refinement, "--output", str(self.folder))

    def miou(self) -> float | None:
        """Mean IoU over all classes of a training-free run in percent; None: it is not finished."""
        scores = self._evaluated() if self.model is not None else None
        return None if scores is None or scores.get("miou") is None else 100 * float(scores["miou"])

    @property
    def _refinement(self) -> tuple[str, ...]:
        """The option of `eval`, where the row says it."""
        return () if self.refine is None else ("--refine",) if self.refine else ("--no-refine",)

    def write_recipe(self) -> None:
        """Write the recipe that training starts with, unless it has started."""
        if self.recipe is not None and not self.started:
            self.recipe_file.write_text(dump_toml(self.recipe), encoding="utf-8")

    def _validated(self) -> dict[str, Any] | None:
        """Scores of the last validation, if it was on all validation images and on the split that counts."""
        recipe = self.recipe
        if recipe is None or recipe.data.split != self.split or recipe.train.validate_images:
            return None
        entries = reversed(RunFolder(self.folder).log_entries())
        return next((entry["validation"] for entry in entries if "validation" in entry), None)

    def _evaluated(self) -> dict[str, Any] | None:
        """Scores of `eval.json`, if they are of all images, of this split, and computed as the recipe says."""
        record = _read_json(self.folder / "eval.json")
        if record is None or record["split"] != get_split(self.split).name:
            return None
        complete = record["images"] == record["images_of_the_set"]
        if self.recipe is not None:
            inference = RunFolder(self.folder).recipe().inference
            complete = complete and record["inference"] == inference.model_dump(mode="json", exclude_none=True)
        return dict(record["scores"]) if complete else None


def settings_of(recipe: Recipe | None) -> str:
    """Everything that decides a run's figures, as text: no name, no row of the paper, no number of loader processes."""
    return recipe.model_dump_json(exclude=_NO_SETTINGS) if recipe is not None else ""


def _read_json(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f'"{file}" is no valid JSON ({error}): delete it.') from error


def _differences(found: Recipe, planned: Recipe) -> str:
    """The first keys in which two recipes differ, with both values."""
    there, here = (recipe.model_dump(mode="json", exclude=_NO_SETTINGS) for recipe in (found, planned))
    keys = changed_keys(there, here)
    shown = [f"{key}: {old} there, {new} here" for key, (old, new) in keys.items()][:_DIFFERENCES_SHOWN]
    return "; ".join(shown) + (f"; {len(keys) - len(shown)} more" if len(keys) > len(shown) else "")
