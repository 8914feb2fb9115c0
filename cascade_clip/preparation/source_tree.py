"""The files a dataset is made from, in folders or in archives that are read in place."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cascade_clip.errors import UserError, readable
from cascade_clip.preparation.archives import (
    ARCHIVE_SUFFIXES,
    MemberState,
    clear_spool,
    decompressed_tar,
    inner_path,
    is_archive,
    is_compressed_tar,
    list_members,
    read_member,
    without_suffix,
)

# Folders deeper below a source are not searched: official files are at most four deep.
_DEPTH = 6

# What systems leave in folders and archives beside the files themselves.
_FOREIGN = {"__MACOSX", "lost+found"}


@dataclass(frozen=True)
class Entry:
    """One file in a folder or inside an archive; picklable, and its `repr` changes with the content."""

    container: Path
    """The file itself, or the archive that holds it."""
    member: str | None
    """Name inside the archive as stored there; None: `container` is the file."""
    state: MemberState
    """Bytes and time of change, or `MemberState`."""
    archive: Path | None = None
    """The compressed archive, where `container` holds a copy of what was wanted of it."""

    @classmethod
    def of(cls, path: Path) -> Entry:
        """The entry of a file in a folder; raises UserError where it is not there, cannot be reached or is no file."""
        try:
            about = path.stat()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
            raise UserError(f"{path} cannot be read: it is a pipe, socket or device.")
        return cls(path, None, (about.st_size, about.st_mtime_ns))

    @property
    def name(self) -> str:
        """File name, for example "000000000009.jpg"."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """The name's ending in lower case, for example ".jpg"."""
        return self._path.suffix.lower()

    @property
    def place(self) -> PurePosixPath:
        """The file's path, an archive counting as a folder of its name: ".../train2017/train2017/000000000009.jpg"."""
        if self.member is None:
            return PurePosixPath(self.container.as_posix())
        return without_suffix(self.archive or self.container) / inner_path(self.member)

    def read(self) -> bytes:
        """Read the whole file; raises UserError where it cannot be read, is damaged, or its archive was changed."""
        if self.member is not None:
            return read_member(self.container, self.member, self.state)
        try:
            return self.container.read_bytes()
        except OSError as error:
            raise UserError(f"{self} cannot be read: {error.strerror}.") from error

    def __str__(self) -> str:
        """The path for messages: "/data/train2017.zip/train2017/000000000009.jpg"."""
        shown = self.archive or self.container
        return readable(shown if self.member is None else shown / inner_path(self.member))

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(self.container if self.member is None else inner_path(self.member))


class SourceTree:
    """Files of one or several sources, looked up by the end of their path.

    A source is an archive, or a folder with all in it and in the archives directly in it. An archive counts as a folder
    of its name. Archives are opened only when what is looked for is in no folder.

        with SourceTree([Path("downloads")], spool=spool_folder(output)) as tree:
            images = tree.folder("VOC2012/JPEGImages", (".jpg",))
            masks = tree.folder("dataset/cls", (".mat",))

    At the end of a `with` block the spooled files are removed, unless an interrupt ends it: a second start uses them.
    """

    def __init__(self, sources: Sequence[Path], *, spool: Path | None = None) -> None:
        """Look through sources; files are listed by name alone, their state is asked for when they are looked up.

        Without the folder `spool` (see `spool_folder`) compressed tars, which cannot be read in place, are passed over.
        Raises UserError where a source is not there or cannot be read.
        """
        self._sources = list(dict.fromkeys(path.absolute() for path in sources))
        self._spool = spool
        self._folders: list[_Folder] = []
        self._archives: list[Path] = []
        for source in self._sources:
            if not source.exists():
                raise UserError(f"{source} is not there; give a folder or an archive ({', '.join(ARCHIVE_SUFFIXES)}).")
            if source.is_dir():
                self._scan(source)
            elif is_archive(source):
                self._archives.append(source)
            else:
                self._folders.append(_Folder(source.parent.as_posix(), source.parent, {source.name: None}))

    def folder(self, path: str, suffixes: Collection[str]) -> dict[str, Entry]:
        """Entries directly in the folder of this path, or end of a path ("VOC2012/JPEGImages"), by stem, sorted.

        Only files of these endings count, lower case (".jpg",). Empty: no such folder has any. A folder on disk wins
        over one in an archive. Raises UserError where several different folders match, two files differ only in their
        ending, or an archive that has to be opened is damaged.
        """
        return _by_stem(self._find(path, path, lambda name: PurePosixPath(name).suffix.lower() in suffixes))

    def file(self, path: str) -> Entry | None:
        """Find one file by its path or the end of it ("Segmentation/train.txt"); None: there is none.

        A file on disk wins over one in an archive. Raises UserError where several different files match, or an archive
        that has to be opened is damaged.
        """
        folder, _, wanted = path.rpartition("/")
        return next(iter(self._find(path, folder, lambda name: name == wanted)), None)

    def _find(self, path: str, folder: str, wanted: Callable[[str], bool]) -> list[Entry]:
        """The wanted files of the only folder of this path that has any; `path` is what is looked for, for messages."""
        found = _wanted_in(self._folders, folder, wanted) or _wanted_in(self._packed, folder, wanted)
        if len(found) > 1:
            raise UserError(
                f'"{path}" was found more than once: {" and ".join(sorted(map(str, found)))}; '
                "move the one that is not meant out of the way, or give a folder that holds only one."
            )
        return next(iter(found.values()), [])

    def subfolders(self, path: str) -> list[str]:
        """Names of the folders with files in a folder, sorted; `path` and what is searched are as for `folder`."""

        def names(folders: Iterable[_Folder]) -> set[str]:
            places = (PurePosixPath(folder.place) for folder in folders if folder.files)
            return {place.name for place in places if _ends(place.parent.as_posix(), path)}

        return sorted(names(self._folders) or names(self._packed))

    @property
    def places(self) -> str:
        """The sources that were searched, for messages."""
        return ", ".join(map(str, self._sources))

    def __enter__(self) -> SourceTree:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._spool and (kind is None or issubclass(kind, Exception)):
            clear_spool(self._spool)

    def _scan(self, source: Path) -> None:
        for folder, folders, names in walk(source):
            deepest = len(folder.relative_to(source).parts) == _DEPTH
            folders[:] = [] if deepest else own_names(folders)
            self._folders.append(_Folder(folder.as_posix(), folder, dict.fromkeys(own_names(names))))
            if folder == source:
                self._archives += [path for name in own_names(names) if is_archive(path := folder / name)]

    @cached_property
    def _packed(self) -> list[_Folder]:
        """Folders in archives."""
        found: dict[Path, _Folder] = {}
        for archive in {os.path.realpath(archive): archive for archive in self._archives}.values():
            compressed = is_compressed_tar(archive)
            if compressed and not self._spool:
                continue
            container = decompressed_tar(archive, self._spool) if compressed and self._spool else archive
            for member, state in list_members(container, archive).items():
                path = PurePosixPath(inner_path(member))
                if not path.name.startswith(".") and _FOREIGN.isdisjoint(path.parts):
                    shown, place = archive / path.parent, without_suffix(archive) / path.parent
                    folder = found.setdefault(shown, _Folder(place.as_posix(), shown, {}))
                    folder.files[path.name] = Entry(container, member, state, archive if compressed else None)
        return list(found.values())


class _Folder(NamedTuple):
    """A folder on disk or in an archive."""

    place: str
    """Its path, an archive counting as a folder of its name."""
    shown: Path
    """Its path for messages."""
    files: dict[str, Entry | None]
    """By name; None: on disk."""


def _wanted_in(folders: Iterable[_Folder], path: str, wanted: Callable[[str], bool]) -> dict[Path, list[Entry]]:
    """The wanted files of each folder of this path that has any; a folder that links lead to counts once."""
    found: dict[str, tuple[Path, list[Entry]]] = {}
    for place, shown, files in folders:
        names = [name for name in files if wanted(name)] if _ends(place, path) else []
        if names:
            entries = [files[name] or Entry.of(shown / name) for name in names]
            found[os.path.realpath(shown) if shown.is_dir() else str(shown)] = shown, entries
    return dict(found.values())


def own_names(names: Iterable[str]) -> list[str]:
    """Names of files or folders without those that systems leave there, sorted."""
    return sorted(name for name in names if not name.startswith(".") and name not in _FOREIGN)


def walk(source: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Go through a folder as `os.walk` does, links to folders included; a link back up is not followed.

    Raises UserError where a folder cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise UserError(f"The folder {error.filename} cannot be read: {error.strerror}.") from error

    for place, folders, names in os.walk(source, onerror=unreadable, followlinks=True):
        above = {os.path.realpath(path) for path in (Path(place), *Path(place).parents)}
        folders[:] = [name for name in folders if os.path.realpath(Path(place, name)) not in above]
        yield Path(place), folders, names


def _ends(place: str, path: str) -> bool:
    """Whether a folder's path ends with the parts of another; every path ends with the empty one."""
    return not path or f"/{place}".endswith(f"/{path}")


def _by_stem(entries: Sequence[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.stem, entry.name)):
        other = found.setdefault(entry.stem, entry)
        if other is not entry:
            raise UserError(f"{other} and {entry} differ only in their ending; keep the one that is meant.")
    return found
