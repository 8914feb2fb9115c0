"""The TOML files that list classes and splits: their keys, and the messages about mistakes in them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError

from cascade_clip.config.class_names import LONGEST_NAME, spoken_form
from cascade_clip.config.mistakes import explain_mistakes
from cascade_clip.config.recipes import read_toml
from cascade_clip.config.section import Section
from cascade_clip.data.benchmark import Benchmark
from cascade_clip.errors import UserError, closest

MAX_CLASSES = 255
"""Labels are 8 bits and 255 means "ignored"."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ClassEntry:
    """One class: the dataset's own name, a text that reads better, a colour, and query words."""

    name: str
    """The dataset's own string; the released text embeddings were made from it."""
    prompt: str
    """Text for the prompt, the name where nothing better is known; synonyms are separated by "|"."""
    colour: Colour
    """RGB, 0..255."""
    words: tuple[str, ...] = ()
    """Synonyms that published training-free figures were made with; empty: the name."""

    @property
    def queries(self) -> tuple[str, ...]:
        """Words of which the best counts for the class: `words`, else the name."""
        return self.words or (self.name,)


def parse_colour(given: object) -> Colour:
    """Read an RGB colour, 0..255, from "#rrggbb", "r,g,b" or three numbers; raises ValueError for anything else."""
    values: list[int] = []
    try:
        if isinstance(given, str) and given.strip().startswith("#"):
            values = list(bytes.fromhex(given.strip()[1:]))
        elif isinstance(given, str):
            values = [int(part) for part in given.split(",")]
        elif isinstance(given, Sequence) and all(type(value) is int for value in given):
            values = list(given)
    except ValueError:
        values = []
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        raise ValueError(f'a colour is "#rrggbb" or three numbers of 0 to 255, got {given!r}')
    return values[0], values[1], values[2]


def default_colour(index: int) -> Colour:
    """Colour of a class without one: PASCAL VOC's palette without black, so that neighbours differ strongly."""
    bits, colour = index + 1, [0, 0, 0]
    for shift in range(7, -1, -1):
        for channel in range(3):
            colour[channel] |= (bits >> channel & 1) << shift
        bits >>= 3
    return colour[0], colour[1], colour[2]


def class_name_problems(names: Sequence[str]) -> list[str]:
    """A sentence for each problem of class names in label order: none at all, too many, empty or repeated ones."""
    problems = [] if names else ["classes: there is none; list at least one."]
    if len(names) > MAX_CLASSES:
        problems.append(
            f"classes: there are {len(names)}; at most {MAX_CLASSES} fit into 8-bit labels, in which 255 means ignored."
        )
    problems += [f"classes[{i}].name: the name is empty." for i, name in enumerate(names) if not spoken_form(name)]
    problems += [
        f"classes[{i}].name: the name has {len(name):,} characters; shorten it."
        for i, name in enumerate(names)
        if len(name) > LONGEST_NAME
    ]
    problems += [
        f'classes: the name "{name[:80]}" is listed {names.count(name)} times; names must differ.'
        for name in _repeated(names)
        if name.strip()
    ]
    first: dict[str, str] = {}
    for name in dict.fromkeys(names):
        other = first.setdefault(spoken_form(name), name)
        if name.strip() and other != name:
            problems.append(f'classes: "{other}" and "{name}" are the same words to CLIP; names must differ.')
    return problems


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


class _ClassOfFile(Section):
    name: str
    prompt: str | None = None
    words: tuple[Annotated[str, Field(pattern=r"\S")], ...] = ()
    colour: Annotated[Colour | None, BeforeValidator(parse_colour)] = None


class _SplitOfFile(Section):
    unseen: tuple[str, ...] = ()


class _File(Section):
    dataset: Annotated[str, Field(min_length=1)]
    classes: tuple[_ClassOfFile, ...] = ()
    splits: Annotated[dict[str, _SplitOfFile], Field(min_length=1)]
    benchmark: Benchmark | None = None


@dataclass(frozen=True)
class ClassList:
    """Content of a file: the dataset, its classes in label order, the unseen names of each split, published facts."""

    dataset: str
    classes: tuple[ClassEntry, ...]
    unseen: Mapping[str, frozenset[str]]
    benchmark: Benchmark | None
    """None: the file has no section `[benchmark]`."""


def read_class_list(path: Path, known_classes: Callable[[str], tuple[ClassEntry, ...]]) -> ClassList:
    """Read and check a class list; a class without a prompt has its name as prompt, one without a colour a default.

    `known_classes` gives the classes of a dataset by name, for a file that leaves its own out; empty: no such dataset.
    Raises UserError where the file cannot be read or has mistakes, all of them in one message with the closest names.
    """
    try:
        parsed = _File.model_validate(read_toml(path, "split file"))
    except ValidationError as error:
        raise UserError(explain_mistakes(error, f"the split file {path}", _File)) from error
    classes = _with_defaults(parsed.classes) or known_classes(parsed.dataset)
    if not classes:
        problems = [f'classes: it is missing, and "{parsed.dataset}" is no built-in dataset that has them.']
    else:
        problems = _name_problems(parsed, [entry.name for entry in classes])
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise UserError(f"The split file {path} has mistakes:\n{lines}")
    unseen = {split: frozenset(section.unseen) for split, section in parsed.splits.items()}
    return ClassList(parsed.dataset, classes, unseen, parsed.benchmark)


def _with_defaults(classes: Sequence[_ClassOfFile]) -> tuple[ClassEntry, ...]:
    return tuple(
        ClassEntry(entry.name, entry.prompt or entry.name, entry.colour or default_colour(index), entry.words)
        for index, entry in enumerate(classes)
    )


def _name_problems(parsed: _File, names: Sequence[str]) -> list[str]:
    problems = class_name_problems(names)
    problems += [
        f"classes[{i}].prompt: a text, or one of its synonyms, is empty: name the class in words or leave the key out."
        for i, entry in enumerate(parsed.classes)
        if entry.prompt is not None and not all(map(spoken_form, entry.prompt.split("|")))
    ]
    for split, section in parsed.splits.items():
        key = f"splits.{split}.unseen"
        problems += [
            f'{key}: "{name}" is none of the classes.{closest(name, names)}'
            for name in section.unseen
            if name not in names
        ]
        problems += [f'{key}: "{name}" is listed more than once.' for name in _repeated(section.unseen)]
        if names and set(names) <= set(section.unseen):
            problems.append(f"{key}: every class is unseen; at least one must be seen.")
    return problems
