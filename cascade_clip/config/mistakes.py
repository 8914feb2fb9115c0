"""What is wrong in a file of values, in plain words: pydantic's errors as the toolkit tells them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from cascade_clip.errors import closest, counted, repr_name

_LONGEST_SHOWN = 80
_SENTENCES = {
    "missing": "is missing",
    "bool": "true or false is expected",
    "int": "a whole number is expected",
    "float": "a number is expected",
    "finite_number": "a finite number is expected",
    "string_too_short": "text is expected that is not empty",
    "string_pattern_mismatch": "text of the form {pattern} is expected",
    "string": "text is expected",
    "tuple": "a list is expected",
    "list": "a list is expected",
    "path": "a path is expected",
    "dict": "a table of keys and values is expected",
    "mapping": "a table of keys and values is expected",
    "model": "a table of keys and values is expected",
    "greater_than_equal": "at least {ge} is expected",
    "greater_than": "more than {gt} is expected",
    "less_than_equal": "at most {le} is expected",
    "less_than": "less than {lt} is expected",
    "literal_error": "{expected} is expected",
    "too_short": "at least {min_length} entries are expected",
    "too_long": "at most {max_length} entries are expected",
}
"""By the beginning of pydantic's name of an error; the first that fits counts."""


def explain_mistakes(error: ValidationError, source: str, model: type[BaseModel]) -> str:
    """Explain a validation error: a count, then one line for each mistake with its key and the closest known key.

    `source` says where the values come from, for example `recipe "voc/zegclip"`; `model` is what was read.
    """
    problems = [(where_of(item["loc"]), _problem(item, model)) for item in error.errors(include_url=False)]
    return list_mistakes([f"{where}: {problem}" for where, problem in problems], source)


def list_mistakes(mistakes: Sequence[str], source: str) -> str:
    """Say how many mistakes there are in `source`, then each in a line of its own."""
    verb = "is" if len(mistakes) == 1 else "are"
    lines = [f"There {verb} {counted(len(mistakes), 'mistake')} in {source}:", *(f"  {one}" for one in mistakes)]
    return "\n".join(lines)


def where_of(location: Iterable[str | int]) -> str:
    """Key of a mistake, its parts joined by dots."""
    return ".".join(str(part) for part in location) or "the whole file"


def _problem(item: Any, model: type[BaseModel]) -> str:
    location, given, kind = item["loc"], item["input"], item["type"]
    if kind == "extra_forbidden":
        return f"unknown key.{_closest_key(location, model)}"
    if kind == "missing":
        return _SENTENCES[kind]
    sentence = next((text for start, text in _SENTENCES.items() if kind.startswith(start)), None)
    message: str = item["msg"].removeprefix("Value error, ")
    if sentence is not None:
        message = sentence.format(**item.get("ctx", {}))
    # A rule over several keys names them itself; a whole section, or the whole recipe, would bury its sentence.
    told = isinstance(given, Mapping) or "got " in message
    return message if told else f"{message} (got {_shown(given)})"


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _closest_key(location: Sequence[str | int], model: type[BaseModel]) -> str:
    """Name the sections that have the very key, else the keys that are nearest to it where it stands."""
    key = str(location[-1])
    sections = [section for section in model.model_fields if key in _keys_at(model, [section])]
    if sections:
        return f" Did you mean {' or '.join(repr_name(f'{section}.{key}') for section in sections)}?"
    return closest(key, _keys_at(model, location[:-1]))


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
