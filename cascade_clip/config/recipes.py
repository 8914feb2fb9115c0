"""Reading recipes: TOML files with one-level `extends`, `--set key=value` on top, every error at once."""

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from cascade_clip.config.mistakes import explain_mistakes
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError, closest, reason_of
from cascade_clip.files import usable_path

SUFFIX = ".toml"
_NUMBERS = re.compile(r"(?<= = )\[[\[\]\d.,e+\s-]*\]$", re.MULTILINE)
"""Lists of numbers, which are read more easily in one line."""
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
    files = (file for file in folder.rglob(f"*{SUFFIX}") if file.parent.name != TABLES)
    return tuple(sorted(file.relative_to(folder).with_suffix("").as_posix() for file in files))


def recipe_file(name_or_file: str) -> Path:
    """Find a recipe by name or path, else raise UserError, which offers the closest names."""
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
    """Put `--set key=value` on top of a recipe that was read or made already; errors as of `load_recipe`."""
    content = recipe.model_dump(mode="json", exclude_none=True)
    return _with_overrides(content, overrides, f'recipe "{recipe.name}"')


def dump_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML, every key with its value; `load_recipe` of it gives the same recipe."""
    text = tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))
    return _NUMBERS.sub(lambda found: "".join(found[0].split()).replace(",]", "]").replace(",", ", "), text)


def changed_keys(
    before: Mapping[str, Any], now: Mapping[str, Any], *, common: bool = False
) -> dict[str, tuple[Any, Any]]:
    """Compare two recipes, each a table of sections: dotted keys with both values, where they differ.

    Keys that only one of them has, as another version of the toolkit added or removed them, are None in the other one,
    or left out if only those `common` to both are wanted.
    """
    old, new = _flat(before), _flat(now)
    keys = [key for key in new if key in old] if common else {**old, **new}
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def without_retired(content: Mapping[str, Any], *, any_value: bool = False) -> dict[str, Any]:
    """Drop the retired keys from a recipe that an earlier version of the toolkit wrote.

    `any_value` drops them whatever they hold, as for a trained model, which they no longer concern. By default a key
    stays, and is an unknown one, where it changed the training.
    """
    kept = dict(content)
    for (section, key), default in RETIRED.items():
        values = kept.get(section)
        if isinstance(values, Mapping) and key in values and (any_value or values[key] == default):
            kept[section] = {name: value for name, value in values.items() if name != key}
    return kept


def read_toml(file: Path, what: str) -> dict[str, Any]:
    """Read a TOML file, else raise UserError; `what` ("recipe", "table") names its kind in the error."""
    try:
        # A pipe would be waited for without end.
        if file.exists() and not file.is_file():
            raise UserError(f'The {what} "{file}" cannot be read: it is {"a folder" if file.is_dir() else "no file"}.')
        return _parse_toml(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f'The {what} "{file}" cannot be read: {reason_of(error)}.') from error
    except UnicodeDecodeError as error:
        raise UserError(f'The {what} "{file}" is no UTF-8 text: save it in this encoding.') from error
    except ValueError as error:
        raise UserError(f'The {what} "{file}" is no valid TOML: {error}.') from error


def _parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML; a ValueError says what is wrong, values included that no message could show."""
    try:
        content = tomllib.loads(text)
        repr(content)
    except tomllib.TOMLDecodeError:
        raise
    except (RecursionError, ValueError) as error:
        raise ValueError("its values are nested too deeply, or a whole number in it is too long") from error
    return content


def _read_with_base(file: Path) -> dict[str, Any]:
    content = read_toml(file, "recipe")
    base = content.pop("extends", None)
    if base is None:
        return content
    beside = usable_path(file.parent / str(base), "The extended recipe")
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
    if not equals or not all(part.strip() for part in key.split(".")):
        raise UserError(f'--set needs key=value, for example --set train.batch=8; got "{override}".')
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in override):
        raise UserError(f"--set takes one line of text, got {override!r}.")
    try:
        return key.strip(), _parse_toml(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), text.strip()
    except ValueError as error:
        raise UserError(f'--set "{key}" cannot be read: {error}.') from error


def _set(content: dict[str, Any], path: Sequence[str], value: Any, override: str) -> None:
    for part in path[:-1]:
        content = content.setdefault(part, {})
        if not isinstance(content, dict):
            raise UserError(f'--set {override}: "{part}" is a value, not a section.')
    content[path[-1]] = value
