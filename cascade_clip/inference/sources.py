"""Images and videos that users name: files, folders, globs, addresses on the web, standard input."""

import glob
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from cascade_clip.data.image_file import opened_image
from cascade_clip.data.images import IMAGE_SUFFIXES
from cascade_clip.errors import UserError
from cascade_clip.files import usable_path
from cascade_clip.inference.prediction_files import is_output
from cascade_clip.inference.web_files import check_address, is_address, read_address, read_stdin

STDIN = "-"
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
"""Files that are read as videos."""
_LONGEST_STEM = 100


class Source(NamedTuple):
    """One image or video."""

    name: str
    """As results call it: a path, an address without its password, or "-"."""
    path: Path
    """Its file; of an address or of standard input only a name, until `fetched`."""
    folder: Path = Path()
    """Below which folder of the output its files belong; of a recursive search that of the image."""
    address: str | None = None
    """Address on the web, or "-" for standard input; None: it is a file."""

    @property
    def identity(self) -> str | None:
        """What tells it from other images; None: nothing does, as for standard input."""
        return None if self.address == STDIN else self.name


def is_video(path: Path) -> bool:
    """Whether a file counts as a video, by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def source_named(name: str) -> Source:
    """The image of a path, an address or "-"; raises as `check_address`."""
    if name == STDIN:
        return Source(STDIN, Path("stdin"), address=STDIN)
    if is_address(name):
        return Source(check_address(name), Path(_name_in(name)), address=name)
    return Source(name, Path(name))


def find_images(inputs: Sequence[str | Path]) -> list[Path]:
    """Expand files, folders and globs into image files, as `find_sources` does; raises for addresses, too."""
    sources = find_sources(inputs, suffixes=IMAGE_SUFFIXES)
    if addresses := [source.name for source in sources if source.address is not None]:
        raise UserError(f'"{addresses[0]}" is no file: save the image, and give its path.')
    return [source.path for source in sources]


def find_sources(
    inputs: Sequence[str | Path],
    *,
    recursive: bool = False,
    output: Path | None = None,
    suffixes: Iterable[str] = IMAGE_SUFFIXES | VIDEO_SUFFIXES,
) -> list[Source]:
    """Expand what a user named into images and videos.

    What an earlier run of the toolkit drew or wrote beside its records is no photograph: it is left out, also where the
    shell expanded a pattern; a file that is named alone is taken.

    Args:
        inputs: Files (as they are), folders (their images and videos, not those of sub-folders), globs ("**" for any
            depth), http:// and https:// addresses, "-" for standard input. What exists is taken as it is: in
            "set [12]/*.png" only the "*" is a pattern where there is a folder "set [12]".
        recursive: Take those of sub-folders too, but for hidden ones; each keeps its sub-folder in the output.
        output: Folder that is not searched although it may lie in one that is.
        suffixes: Of the files that are taken out of folders and globs.

    They come in the order of the inputs, those of a folder or glob sorted, each file once. Raises UserError where an
    input does not exist, is an address of another kind, or nothing was found in a folder or glob.
    """
    found: dict[str, Source] = {}
    for given in inputs:
        for source in _sources_of(given, tuple(suffixes), recursive, output):
            found.setdefault(source.address or os.path.realpath(source.path), source)
    photographs = [source for source in found.values() if source.address or not is_output(source.path)]
    return photographs or list(found.values())


def fetched(source: Source, folder: Path) -> Source:
    """Read an address or standard input into a file of a folder, else a `UserError`; other images stay as they are."""
    if source.address is None:
        return source
    content = read_stdin() if source.address == STDIN else read_address(source.address)
    path = source.path
    if not is_video(path):
        with opened_image(content, "Standard input" if source.address == STDIN else source.name) as image:
            known = path.suffix.lower() in IMAGE_SUFFIXES
            path = path if known else Path(f"{path.name}.{image.kind.split()[0].lower()}")
    place = Path(tempfile.mkdtemp(dir=folder), path.name)
    place.write_bytes(content)
    return source._replace(path=place)


def output_stems(sources: Sequence[Source], taken: Callable[[str, Source], bool] | None = None) -> list[str]:
    """Name the output files of images, each given once, so that none overwrites another's.

    `taken` says of a stem and an image whether the stem is another image's already. Gives the stem of each, below its
    folder; where that is taken (case does not matter), with its parent folder's or its server's name in front or its
    suffix behind, else with a number.
    """
    stems: dict[str, str] = {}
    for source in sources:
        stem = next(
            name
            for name in _possible_stems(source)
            if name.casefold() not in stems and not (taken is not None and taken(name, source))
        )
        stems[stem.casefold()] = stem
    return list(stems.values())


def flat_stems(stems: Sequence[str]) -> dict[str, str]:
    """A name without folders for each stem, for formats whose readers look into one folder: "a/b" becomes "a-b"."""
    names: dict[str, str] = {}
    for stem in stems:
        flat = stem.replace("/", "-")
        name = next(one for one in chain([flat], (f"{flat}-{n}" for n in count(2))) if one.casefold() not in names)
        names[name.casefold()] = name
    return dict(zip(stems, names.values(), strict=True))


def _sources_of(given: str | Path, suffixes: tuple[str, ...], recursive: bool, output: Path | None) -> list[Source]:
    if (single := source_named(str(given))).address is not None:
        return [single]
    path = usable_path(given, "The image")
    kind = _kind_of(path)
    if kind == "file":
        return [source_named(str(path))]
    if kind == "folder":
        where = f'was found in the folder "{path}"'
        paths = _below(path, output) if recursive else _inside(path)
    elif pattern := _pattern(path):
        matches = glob.glob(pattern, recursive=True)  # noqa: PTH207  (absolute patterns)
        where, paths = f'matches "{path}"', [Path(match) for match in matches]
    else:
        raise UserError(f'There is no file or folder "{path}".')
    images = sorted(one for one in paths if one.name[0] != "." and one.suffix.lower() in suffixes and not one.is_dir())
    photographs = [one for one in images if not is_output(one)]
    if not photographs:
        known = f"Known are files that end in {', '.join(sorted(suffixes))}."
        raise UserError(f"No image {where}{', only what predictions left' if images else ''}. {known}")
    base = path if kind == "folder" else None
    return [Source(str(one), one, one.parent.relative_to(base) if base else Path()) for one in photographs]


def _name_in(address: str) -> str:
    """A file's name for an address: the last part of its path, else its server's name."""
    parts = urlsplit(address)
    last = unquote(parts.path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = "".join(character for character in last if character.isprintable()).strip(". ") or parts.hostname or "image"
    return Path(name).stem[:_LONGEST_STEM] + Path(name).suffix[:10]


def _kind_of(given: Path) -> str:
    """Whether an input is a "file" (or a pipe or broken link, of which is said later what it is), a "folder" or ""."""
    try:
        return "folder" if given.is_dir() else "file" if given.is_symlink() or given.exists() else ""
    except (OSError, ValueError) as error:
        raise UserError(f'"{given}" cannot be read: {getattr(error, "strerror", None) or error}.') from error


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UserError(f'The folder "{folder}" cannot be read: {error.strerror}.') from error


def _below(folder: Path, output: Path | None) -> Iterator[Path]:
    """All files of a folder and its sub-folders, links followed once; not those of `output` or of hidden folders."""

    def refuse(error: OSError) -> None:
        raise UserError(f'The folder "{error.filename}" cannot be read: {error.strerror}.') from error

    visited = set() if output is None else {os.path.realpath(output)} - {os.path.realpath(folder)}
    for where, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (place := os.path.realpath(where)) in visited:
            folders.clear()
            continue
        visited.add(place)
        folders[:] = [name for name in folders if name[0] != "."]
        yield from (Path(where, name) for name in names)


def _pattern(given: Path) -> str:
    """A glob in which the part of a path that exists stands for itself; empty where the rest is no pattern."""
    exists = next((parent for parent in given.parents if parent.exists()), Path())
    rest = given.relative_to(exists)
    if not glob.has_magic(str(rest)):
        return ""
    return str(Path(glob.escape(str(exists)), rest)) if exists.parts else str(rest)


def _possible_stems(source: Source) -> Iterator[str]:
    path, suffix = source.path, source.path.suffix.lstrip(".")
    parent = Path(os.path.realpath(path)).parent.name if source.address is None else urlsplit(source.address).hostname
    yield _in_folder(source, path.stem)
    if parent:
        yield _in_folder(source, f"{parent}-{path.stem}")
    if suffix and source.address is None:
        yield _in_folder(source, f"{path.stem}-{suffix}")
    for number in count(2):
        yield _in_folder(source, f"{path.stem}-{number}")


def _in_folder(source: Source, stem: str) -> str:
    return (source.folder / stem).as_posix()
