"""Class names as users write them: lists in files, and when two names are one to the tokenizer."""

import html
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from cascade_clip.errors import UserError, reason_of
from cascade_clip.files import composed

_NUMBERED = re.compile(r"(\d+)\s*[:;,.\t]\s*(\S.*)")
_NUMBER_LAST = re.compile(r"(\S.*?)\s*[;,\t]\s*(\d+)")
_IGNORED_KEY = 255
LONGEST_NAME = 2000
"""Characters of a class name with its synonyms; CLIP reads 77 tokens of one."""
_INVISIBLE = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10))))
"""Fillers and variants that Unicode counts as letters or marks; control and format characters have a category."""


def spoken_form(name: str) -> str:
    """A class name by which names are compared: as CLIP's tokenizer sees it, without invisible characters.

    Unicode is composed, entities are resolved, blanks single, letters lower case; zero-width characters are left out.
    """
    plain = " ".join(composed(html.unescape(html.unescape(name))).split())
    seen = (c for c in plain if c not in _INVISIBLE and unicodedata.category(c) not in {"Cc", "Cf"})
    return " ".join("".join(seen).split()).casefold()


def class_synonyms(classes: Sequence[str]) -> list[list[str]]:
    """Split every class into its synonyms, at least one each; "sofa|couch" gives two.

    Raises UserError for no class, an empty name, or a name given twice (see `spoken_form`).
    """
    if not classes:
        raise UserError("No classes are given: name at least one, for example road, tree and sky.")
    words = [[word.strip() for word in name.split("|")] for name in classes]
    for position, name in enumerate(classes, start=1):
        if len(name) > LONGEST_NAME:
            raise UserError(f'Class {position} ("{name[:80]}…") has {len(name):,} characters: shorten the name.')
    for position, (name, synonyms) in enumerate(zip(classes, words, strict=True), start=1):
        if not all(map(spoken_form, synonyms)):
            raise UserError(f'Class {position} ("{name}") is empty or has an empty synonym: give every class a name.')
    first: dict[str, str] = {}
    for name, synonyms in zip(classes, words, strict=True):
        for word in dict.fromkeys(map(spoken_form, synonyms)):
            if word in first:
                raise UserError(f'"{word}" is given twice, in "{first[word]}" and in "{name}": name every class once.')
            first[word] = name
    return words


def listed_names(text: str, option: str) -> list[str]:
    """Class names with commas between them, as the option of the command line takes them.

    Raises UserError where it names a file of class names, has semicolons for commas, or lists "ignored".
    """
    if Path(text).suffix and len(text) < LONGEST_NAME and Path(text).is_file():
        raise UserError(f'{option} "{text}" is a file, names are expected: give it with {option}-file.')
    names = [name.strip() for name in text.split(",")]
    if joined := next((name for name in names if ";" in html.unescape(name)), None):
        raise UserError(f'{option}: "{joined}" is a single name: write commas between names, "|" between synonyms.')
    return _without_ignored(names, option)


def _without_ignored(names: list[str], where: str) -> list[str]:
    """The names, none of which is the toolkit's word for no class."""
    if found := [name for name in names if spoken_form(name) == "ignored"]:
        raise UserError(
            f'{where} lists "{found[0]}", which is no class: pixels of no class are ignored. Leave it out, and give the'
            " mask values of such pixels to `cascade-clip prepare-data` with --ignore (255 always means no class)."
        )
    return names


def read_class_names(path: Path) -> list[str]:
    """Read class names in label order.

    A text file has one name a line; blank lines and lines that begin with # are left out. Where every line begins with
    a number ("0: road") or ends with one ("road,0"), the numbers must count up by one and are dropped. A JSON file maps
    numbers to names, as `id2label` does, or lists the names; 255 means no class.

    Raises UserError for a split's file, no text, no name, numbers with gaps, or "ignored".
    """
    if path.suffix.lower() in (".toml", ".yaml", ".yml"):
        way_out = "give a split with --split" if path.suffix.lower() == ".toml" else "write the names into a text file"
        raise UserError(f'"{path}" is no class file, which has one class name a line: {way_out}.')
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f'The class file "{path}" cannot be read: {reason_of(error)}.') from error
    except UnicodeDecodeError as error:
        raise UserError(f'The class file "{path}" is no UTF-8 text: write one class name a line.') from error
    return class_names_in(text, f'The class file "{path}"', as_json=path.suffix.lower() == ".json")


def class_names_in(text: str, where: str, *, as_json: bool = False) -> list[str]:
    """The class names in the text of such a file; `where` is what messages call it. Raises as `read_class_names`."""
    found = _names_in_json if as_json or re.match(r'\s*(\{|\[\s*")', text) else _names_in_lines
    return _without_ignored(found(text, where), where)


def _names_in_lines(text: str, where: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise UserError(f"{where} holds no class name: write one a line.")
    numbered = [found for found in map(_number_and_name, names) if found]
    if len(numbered) == len(names) - 1 > 1 and not _number_and_name(names[0]):
        raise UserError(
            f'{where} begins with "{names[0]}", and every other line has a number: leave the first line out if it is a'
            " heading, or number it."
        )
    return names if len(numbered) < len(names) else _in_order(numbered, where)


def _number_and_name(line: str) -> tuple[int, str] | None:
    if first := _NUMBERED.fullmatch(line):
        return int(first[1]), first[2]
    last = _NUMBER_LAST.fullmatch(line)
    return (int(last[2]), last[1]) if last else None


def _names_in_json(text: str, where: str) -> list[str]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{where} is no valid JSON ({error}).") from error
    if isinstance(found, dict):
        found = found.get("id2label", found)
    if isinstance(found, list) and found and all(isinstance(name, str) for name in found):
        return found
    keys_are_numbers = isinstance(found, dict) and all(str(key).isdecimal() for key in found)
    if not keys_are_numbers or not found or not all(isinstance(name, str) for name in found.values()):
        raise UserError(f'{where} must map "0", "1", ... to class names, or list the names.')
    return _in_order(((int(key), name) for key, name in found.items() if int(key) != _IGNORED_KEY), where, sort=True)


def _in_order(numbered: Iterable[tuple[int, str]], where: str, *, sort: bool = False) -> list[str]:
    pairs = sorted(numbered) if sort else list(numbered)
    numbers = [number for number, _ in pairs]
    # The numbers of an id2label are values of the mask; a list that counts from 1 is still in the order of the labels.
    starts = (0,) if sort else (0, 1)
    if not numbers or numbers[0] not in starts or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        shown = ", ".join(map(str, numbers[:6]))
        raise UserError(
            f"{where} numbers its classes {shown}, ...: they must count up by one from {' or '.join(map(str, starts))}."
        )
    return [name for _, name in pairs]
