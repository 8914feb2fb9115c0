"""Reading recipes: TOML files with one-level `extends`, `--set key=value` on top, every error at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import BaseModel, ValidationError

from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError, closest, reason_of
from cascade_clip.files import usable_path

SUFFIX = ".toml"
TABLES = "tables"
"""Folder beside the recipes' that holds tables of runs; see `cascade_clip.reproduce.table_file`."""
RETIRED = {("data", "views"): None, ("train", "cache_features"): False}
"""Keys of earlier versions, which their run folders and checkpoints still hold, and the default that each had."""


def recipes_folder() -> Path:
    """Folder of the recipes that come with the toolkit."""
    return Path(str(resources.files("cascade_clip_recipes")))


def recipe_names() -> tuple[str, ...]:
    """Names of the shipped recipes, `folder/file` without suffix, sorted."""
    folder = recipes_folder()
    return tuple(
        sorted(
            str(file.relative_to(folder).with_suffix("").as_posix())
            for file in folder.rglob(f"*{SUFFIX}")
            if file.parent.name != TABLES
        )
    )


def recipe_file(name_or_file: str) -> Path:
    """Find a recipe by name or path.

    Raises:
        UserError: Neither a shipped recipe nor a file; the closest names are offered.
    """
    shipped = recipes_folder() / f"{name_or_file}{SUFFIX}"
    if name_or_file in recipe_names():
        return shipped
    file = usable_path(name_or_file, "The recipe")
    if not file.is_file():
        raise UserError(
            f'There is no recipe "{name_or_file}", neither by name nor as a file.'
            f"{closest(name_or_file, recipe_names())}"
        )
    return file


def load_recipe(
    name_or_file: str | None = None,
    overrides: Sequence[str] = (),
    *,
    changes: Mapping[str, Any] | None = None,
    stored: bool = False,
) -> Recipe:
    """Read a recipe and put `--set key=value` on top.

    Args:
        name_or_file: A shipped recipe's name or a TOML file; None: the defaults alone.
        overrides: `section.key=value` each; the value is read as TOML, and as plain text where that fails.
        changes: Keys and sections, laid out as in a recipe, that replace the file's; the overrides come on top.
        stored: The file was written by a run, perhaps of an earlier version: see `without_retired`.

    Raises:
        UserError: No such recipe, invalid TOML, unknown keys (with the closest one) or values that do not fit; all of
            them in one message, each with its file and key.

    Example:
        >>> recipe = load_recipe("voc/cascade-zegclip", ["train.batch=8"])
        >>> recipe.data.split, recipe.train.batch, recipe.train.iterations
        ('voc-seen', 8, 20000)
    """
    source = "the defaults" if name_or_file is None else f'recipe "{name_or_file}"'
    content: dict[str, Any] = {} if name_or_file is None else _read_with_base(recipe_file(name_or_file))
    return _with_overrides(_merge(without_retired(content) if stored else content, changes or {}), overrides, source)


def change_recipe(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Put `--set key=value` on top of a recipe that was read or made already.

    Raises:
        UserError: Unknown keys or values that do not fit, as for `load_recipe`.
    """
    content = recipe.model_dump(mode="json", exclude_none=True)
    return _with_overrides(content, overrides, f'recipe "{recipe.name}"')


def dump_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML, every key with its value; `load_recipe` of it gives the same recipe."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def without_retired(content: Mapping[str, Any], *, any_value: bool = False) -> dict[str, Any]:
    """Drop the retired keys from a recipe that an earlier version of the toolkit wrote.

    Args:
        content: The recipe's sections, as they were read.
        any_value: Drop them whatever they hold, as for a trained model, which they no longer concern. By default a key
            stays, and is an unknown one, where it changed the training.
    """
    return {
        section: {key: v for key, v in values.items() if not _is_retired(section, key, v, any_value=any_value)}
        if isinstance(values, Mapping)
        else values
        for section, values in content.items()
    }


def _is_retired(section: str, key: str, value: Any, *, any_value: bool) -> bool:
    return (section, key) in RETIRED and (any_value or value == RETIRED[section, key])


def read_toml(file: Path, what: str) -> dict[str, Any]:
    """Read a TOML file; `what` ("recipe", "table") names its kind in the error.

    Raises:
        UserError: It cannot be read, or is no valid TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f'The {what} "{file}" cannot be read: {reason_of(error)}.') from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f'The {what} "{file}" is no valid TOML: {error}.') from error


def explain_mistakes(error: ValidationError, source: str, model: type[BaseModel]) -> str:
    """Explain a validation error: a count, then one line for each mistake with its key and the closest known key.

    Args:
        error: What pydantic raised.
        source: Where the values come from, for example `recipe "voc/zegclip"`.
        model: The model that was read.
    """
    lines = [f"  {_where(item['loc'])}: {_problem(item, model)}" for item in error.errors(include_url=False)]
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return f"There {'is' if len(lines) == 1 else 'are'} {count} in {source}:\n" + "\n".join(lines)


def _read_with_base(file: Path) -> dict[str, Any]:
    content = read_toml(file, "recipe")
    base = content.pop("extends", None)
    if base is None:
        return content
    beside = file.parent / str(base)
    below = read_toml(beside if beside.is_file() else recipe_file(str(base)), "recipe")
    if "extends" in below:
        raise UserError(f'"{file}" extends "{base}", which extends another recipe itself: one level is allowed.')
    # Which figure of the paper a recipe reproduces is its own claim: what extends it changes something.
    below.pop("paper", None)
    return _merge(below, content)


def _with_overrides(content: dict[str, Any], overrides: Sequence[str], source: str) -> Recipe:
    for override in overrides:
        key, value = _parse_override(override)
        _set(content, key.split("."), value, override)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(explain_mistakes(error, source + (" with --set" if overrides else ""), Recipe)) from error


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both_tables else value
    return merged


def _parse_override(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f'--set needs key=value, for example --set train.batch=8; got "{override}".')
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), text.strip()


def _set(content: dict[str, Any], path: Sequence[str], value: Any, override: str) -> None:
    for part in path[:-1]:
        content = content.setdefault(part, {})
        if not isinstance(content, dict):
            raise UserError(f'--set {override}: "{part}" is a value, not a section.')
    content[path[-1]] = value


def _where(location: Iterable[str | int]) -> str:
    return ".".join(str(part) for part in location) or "recipe"


def _problem(item: Any, model: type[BaseModel]) -> str:
    location, given = item["loc"], item["input"]
    if item["type"] == "extra_forbidden":
        return f"unknown key.{closest(str(location[-1]), _keys_at(model, location[:-1]))}"
    message: str = item["msg"].removeprefix("Value error, ")
    # A rule over several keys names them itself; a whole section, or the whole recipe, would bury its sentence.
    told = isinstance(given, Mapping) or f"got {given!r}" in message
    return message if told else f"{message} (got {given!r})"


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Known keys of the section at a location; numbers of list items and keys of tables are skipped."""
    for part in location:
        if part not in model.model_fields:
            continue
        annotation = model.model_fields[str(part)].annotation
        sections = [
            kind
            for kind in (annotation, *get_args(annotation))
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if not sections:
            return []
        model = sections[0]
    return list(model.model_fields)
