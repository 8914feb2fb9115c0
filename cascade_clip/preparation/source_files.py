"""Lists and colour tables that a dataset is made from, and the record of sources in `dataset.json`."""

import csv
import hashlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cascade_clip.data.class_list_file import Colour, parse_colour
from cascade_clip.data.dataset_info import Part, SourceFile
from cascade_clip.errors import UserError, readable
from cascade_clip.preparation.source_tree import Entry, own_names, walk

_HASHED_BYTES = 64 << 20
_CSV_HEADINGS = {"r,g,b", "red,green,blue", "colour", "color", "hex"}
"""What stands over the colours of a table with headings, such as CamVid's `name,r,g,b`."""


def read_lines(file: Path | Entry, what: str) -> list[str]:
    """Read a text file with one entry a line, which may be in an archive; messages call it `what` ("list of images").

    Gives lines without surrounding blanks, and no empty ones. Raises UserError where it cannot be read as text.
    """
    return [stripped for line in _read_text(file, what).splitlines() if (stripped := line.strip())]


def _read_text(file: Path | Entry, what: str) -> str:
    entry = file if isinstance(file, Entry) else Entry.of(file)
    try:
        return entry.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"The {what} {entry} is not a UTF-8 text file.") from error


def read_colours(path: Path) -> dict[str, Colour]:
    """Read the RGB of each class from a TOML or CSV file: `road = "#804080"`, `road,#804080`, `road,128,64,128`.

    A first row of a CSV with the headings r, g, b or colour is passed over.

    Raises UserError where it cannot be read, or entries are no colours or listed twice (all of them at once).
    """
    problems: list[str] = []
    colours: dict[str, Colour] = {}
    for name, given in _colour_entries(path, _read_text(path, "colour table")):
        try:
            colour = parse_colour(given)
        except ValueError as error:
            problems.append(f"{name}: {error}.")
            continue
        if name in colours or colour in colours.values():
            problems.append(f"{name}: the {'name' if name in colours else 'colour'} is listed more than once.")
        colours[name] = colour
    if problems or not colours:
        lines = "\n".join(f"  {problem}" for problem in problems or ["it holds no colour."])
        raise UserError(f"The colour table {path} says something wrong:\n{lines}")
    return colours


def _colour_entries(path: Path, text: str) -> Sequence[tuple[str, object]]:
    if path.suffix.lower() == ".toml":
        try:
            return list(tomllib.loads(text).items())
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"The colour table {path} is not valid TOML: {error}.") from error
    rows = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if any(map(str.strip, row))]
    if rows and ",".join(cell.strip().lower() for cell in rows[0][1:]) in _CSV_HEADINGS:
        del rows[0]
    return [(row[0].strip(), ",".join(row[1:])) for row in rows]


def check_counts(where: str, found: Mapping[Part, int], published: Mapping[str, int], note: str = "") -> None:
    """Raise UserError where numbers of images (`where`) differ from the published ones; a note begins with a blank."""
    if any(count != published[part] for part, count in found.items()):
        raise UserError(
            f"{where} gives {found['train']:,} training and {found['val']:,} validation images; published are "
            f"{published['train']:,} and {published['val']:,}.{note} Complete it, or give --subset N to take N images "
            "of each part."
        )


def describe_file(file: Path | Entry) -> SourceFile:
    """Name, length and SHA-256 of a file or archive; the last is empty above 64 MiB, as hashing would take long."""
    entry = file if isinstance(file, Entry) else Entry.of(file)
    length = entry.state[0]
    digest = hashlib.sha256(entry.read()).hexdigest() if length <= _HASHED_BYTES else ""
    return SourceFile(name=readable(entry.name), bytes=length, sha256=digest)


def describe_archives(entries: Iterable[Entry]) -> list[SourceFile]:
    """Describe the archives of files, each once, sorted; files in folders are passed over."""
    archives = {entry.archive or entry.container for entry in entries if entry.member is not None}
    return [describe_file(path) for path in sorted(archives)]


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and its sub-folders, without hidden ones and what systems leave there; see `walk`."""
    for place, folders, names in walk(folder):
        folders[:] = own_names(folders)
        yield from (place / name for name in own_names(names))
