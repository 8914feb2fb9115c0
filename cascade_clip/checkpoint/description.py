"""`config.json` of a checkpoint folder: its keys, and the messages about mistakes in them."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cascade_clip.config.mistakes import explain_mistakes, list_mistakes
from cascade_clip.config.recipes import without_retired
from cascade_clip.config.schema import Recipe
from cascade_clip.config.section import Section
from cascade_clip.data.catalogue import ClassEntry, Split
from cascade_clip.errors import UserError, closest, reason_of
from cascade_clip.files import json_text

FORMAT_VERSION = 1
CONFIG = "config.json"
_BELONGS = "recipe_and_split_sha256"
_OTHER_MODELS = ' A model is a checkpoint folder, ORG/NAME on the Hub or "bundled".'
ADDED_LATER = frozenset(
    {
        "clip.model_config_sha256",
        "recipe.data.stream",
        "recipe.evaluation",
        "recipe.inference.training_free",
        "recipe.loss.region",
        "recipe.model.decoder.gate",
        "recipe.model.decoders_per_stage",
        "recipe.model.spectral",
        "recipe.self_training",
        "recipe.train.compile",
        "recipe.train.deterministic",
        "recipe.train.init",
        "recipe.train.pictures",
    }
)
"""Keys that checkpoints of earlier versions lack; their defaults are what these versions did."""

_Text = Annotated[str, Field(min_length=1)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Channel = Annotated[int, Field(ge=0, le=255)]


class ClipDescription(Section):
    """The frozen CLIP, see `cascade_clip.model.clip.load.ClipIdentity`."""

    model_config = ConfigDict(populate_by_name=True)

    architecture: _Text
    weights: _Text | None
    settings: Annotated[dict[str, Any], Field(alias="model_config")]
    """open_clip's settings; the key in the file is `model_config`."""
    settings_sha256: Annotated[_Sha256, Field(alias="model_config_sha256")] = ""
    """Hash of the settings, whose defaults would silently stand in for what is deleted there."""
    sha256: _Sha256
    """Hash of the weights."""
    text: bool
    """Whether there is a text tower."""
    stored: bool
    """Whether the weights lie in the folder."""

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        if self.settings_sha256 not in {"", hash_of_settings(self.settings)}:
            raise ValueError("model_config is not what was written here, as its model_config_sha256 tells")
        return self


class ClassDescription(Section):
    """One class, see `cascade_clip.data.catalogue.ClassEntry`."""

    name: _Text
    prompt: _Text
    colour: tuple[_Channel, _Channel, _Channel]


class SplitDescription(Section):
    """The classes that the model was trained on."""

    name: _Text
    dataset: _Text
    classes: Annotated[tuple[ClassDescription, ...], Field(min_length=1)]
    unseen: tuple[str, ...]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [entry.name for entry in self.classes]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f'classes: "{repeated[0]}" is listed more than once')
        if len(set(self.unseen)) < len(self.unseen):
            raise ValueError("unseen: a class is listed more than once")
        if unknown := [name for name in self.unseen if name not in names]:
            raise ValueError(f'unseen: "{unknown[0]}" is none of the classes.{closest(unknown[0], names)}')
        if set(names) == set(self.unseen):
            raise ValueError("unseen: every class is unseen; at least one must be seen")
        return self

    @classmethod
    def of(cls, split: Split) -> Self:
        """Describe a split."""
        classes = tuple(ClassDescription(name=c.name, prompt=c.prompt, colour=c.colour) for c in split.classes)
        return cls(name=split.name, dataset=split.dataset, classes=classes, unseen=tuple(sorted(split.unseen)))

    def split(self) -> Split:
        """The split that is described."""
        classes = tuple(ClassEntry(entry.name, entry.prompt, entry.colour) for entry in self.classes)
        return Split(self.name, self.dataset, classes, frozenset(self.unseen))


class Description(Section):
    """Content of `config.json`."""

    format_version: Annotated[int, Field(ge=1)] = FORMAT_VERSION
    tool: _Text
    """The program and its version."""
    licence: _Text
    """Licence of the weights."""
    clip: ClipDescription
    split: SplitDescription | None
    """None: not known."""
    recipe: Recipe
    """The resolved recipe the model was trained with."""


def write_config(folder: Path, description: Description) -> None:
    """Write `config.json` into a folder that exists, with a hash of the classes and recipe of the weights."""
    content = description.model_dump(mode="json", by_alias=True)
    (folder / CONFIG).write_text(json_text(content | {_BELONGS: _hash_of_belonging(content)}), encoding="utf-8")


def _hash_of_belonging(content: Mapping[str, Any]) -> str:
    return hash_of_settings({key: content.get(key) for key in ("split", "recipe")})


def read_config(folder: Path) -> Description:
    """Read `config.json` of a checkpoint folder, strictly: every key must be there and of its own type.

    Raises UserError for no checkpoint, a newer format, or mistakes in the file (all of them, with keys and values).
    """
    content, file = _content(folder), folder / CONFIG
    # Taken before retired keys go; checkpoints of earlier versions have none.
    belonging = _hash_of_belonging(content)
    changed = content.pop(_BELONGS, belonging) != belonging
    if isinstance(content.get("recipe"), Mapping):
        content["recipe"] = without_retired(content["recipe"], any_value=True)
    source = f'"{file}", which is damaged or of another version'
    try:
        description = Description.model_validate_json(json.dumps(content, ensure_ascii=False), strict=True)
    except ValidationError as error:
        raise UserError(explain_mistakes(error, source, Description)) from error
    if missing := [f"{key}: is missing" for key in _left_out(description)]:
        raise UserError(list_mistakes(missing, source))
    if changed:
        raise UserError(
            f'"{file}" was changed after it was written: its recipe or classes are not those of the weights. Put it'
            f' back, or delete its key "{_BELONGS}" if the change is meant.'
        )
    return description


def hash_of_settings(settings: Mapping[str, Any]) -> str:
    """Hash of JSON values, whatever the order of the keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _content(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if not file.is_file():
        found = "has no config.json" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
        hint = f' Did you mean "{folder / "model"}"?' if (folder / "model" / CONFIG).is_file() else _OTHER_MODELS
        raise UserError(f'"{folder}" is no checkpoint folder: it {found}.{hint}')
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        json.dumps(content, ensure_ascii=False).encode()
    except OSError as error:
        raise UserError(f'"{file}" cannot be read: {reason_of(error)}.') from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'"{file}" is damaged: it is no valid JSON. Copy the checkpoint again.') from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is not int:
        raise UserError(f'"{file}" is not a checkpoint of Cascade-CLIP: no "format_version" can be read.')
    if version > FORMAT_VERSION:
        raise UserError(
            f'"{folder}" has checkpoint format {version}, written by {content.get("tool", "a newer version")}; this'
            f" version reads up to {FORMAT_VERSION}: update with `pip install --upgrade cascade-clip`."
        )
    return dict(content)


def _left_out(section: BaseModel, prefix: str = "") -> Iterator[str]:
    """Keys that the file lacks although the versions that wrote it had them."""
    for key, field in type(section).model_fields.items():
        where, value = f"{prefix}{field.alias or key}", getattr(section, key)
        if key not in section.model_fields_set:
            if where not in ADDED_LATER:
                yield where
        elif isinstance(value, BaseModel):
            yield from _left_out(value, f"{where}.")
