"""The files a dataset is made from, wherever they lie: in folders, or in archives that are read in place."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from cascade_clip.errors import UserError
from cascade_clip.preparation.archive_checks import inner_path
from cascade_clip.preparation.archive_spool import clear_spool, spool_tar
from cascade_clip.preparation.archives import (
    ARCHIVE_SUFFIXES,
    is_archive,
    is_compressed_tar,
    members_of,
    without_ending,
)
from cascade_clip.preparation.source_entry import Entry

__all__ = ["Entry", "SourceTree"]

# Folders deeper below a source are not looked into: official files lie at most four deep.
_DEPTH = 6

# What systems leave in folders and archives beside the files themselves.
_FOREIGN = {"__MACOSX", "lost+found"}


class SourceTree:
    """Files of one or several sources, looked up by the end of their path.

    A source is a folder, with what lies in it and in the archives directly in it, or an archive. An archive counts as a
    folder of its name. Archives are opened only when what is looked for lies in no folder.

        with SourceTree.open([Path("downloads")], spool=spool_folder(output), spooled=["dataset/cls"]) as tree:
            images = tree.folder("VOC2012/JPEGImages", (".jpg",))
            masks = tree.folder("dataset/cls", (".mat",))
    """

    def __init__(self, sources: Sequence[Path], spool: Path | None, spooled: Sequence[str]) -> None:
        self._sources = list(dict.fromkeys(path.absolute() for path in sources))
        self._spool = spool
        self._spooled = spooled
        self._unreadable: list[str] = []
        self._names: dict[str, list[str]] = {}
        self._archives: list[Path] = []
        for source in self._sources:
            if source.is_dir():
                self._scan(source)
            elif is_archive(source):
                self._archives.append(source)
            else:
                self._names.setdefault(source.parent.as_posix(), []).append(source.name)

    @classmethod
    def open(cls, sources: Sequence[Path], *, spool: Path | None = None, spooled: Sequence[str] = ()) -> SourceTree:
        """Look through sources.

        Args:
            sources: Folders, archives (.zip, .tar, .tgz, .tar.gz, .tar.bz2, .tar.xz), or single files.
            spool: Folder for the wanted members of compressed tars, which cannot be read in place; hidden, beside the
                output (see `spool_folder`).
            spooled: The wanted ones: paths of files or folders, or parts of such, for example "dataset/cls". Unset:
                compressed tars are passed over.

        Returns:
            The tree. Used in a `with` statement it removes at the end what was spooled, unless it ends by an
            interrupt: then a second start goes on with it.

        Raises:
            UserError: A source is not there or cannot be read.
        """
        for source in sources:
            if not source.exists():
                raise UserError(f"{source} is not there; give a folder or an archive ({', '.join(ARCHIVE_SUFFIXES)}).")
        return cls(sources, spool, spooled)

    def folder(self, path: str, suffixes: Collection[str]) -> dict[str, Entry]:
        """List the files of one folder.

        Args:
            path: The folder's path, or the end of it: "train2017", "VOC2012/JPEGImages".
            suffixes: Endings that count, lower case (".jpg",).

        Returns:
            Entries directly in it by stem, sorted; empty where no folder of this path holds such files. A folder on
            disk wins over one in an archive.

        Raises:
            UserError: Several different folders match, or two files differ only in their ending (both are named); an
                archive that has to be opened is damaged or hostile.
        """
        found = self._folders_on_disk(path, suffixes) or self._folders_in_archives(path, suffixes)
        _refuse_several(path, list(found))
        return _by_stem(next(iter(found.values()), []))

    def file(self, path: str) -> Entry | None:
        """Find one file.

        Args:
            path: Its path, or the end of it: "ImageSets/Segmentation/train.txt".

        Returns:
            The entry; None where there is no such file. One on disk wins over one in an archive.

        Raises:
            UserError: Several different files match; an archive that has to be opened is damaged or hostile.
        """
        folder, _, name = path.rpartition("/")
        on_disk = [Path(place, name) for place, names in self._names.items() if _ends(place, folder) and name in names]
        different = {os.path.realpath(file): file for file in on_disk}
        found = [Entry.of(file) for file in different.values()]
        if not found:
            inside = [entries.get(name) for (_, place), entries in self._packed.items() if _ends(place, folder)]
            found = [entry for entry in inside if entry]
        _refuse_several(path, [str(entry) for entry in found])
        return found[0] if found else None

    @property
    def places(self) -> str:
        """For messages: what was searched."""
        unreadable = f" (without {', '.join(self._unreadable)}, which cannot be read)" if self._unreadable else ""
        return f"{', '.join(map(str, self._sources))}{unreadable}"

    def close_spool(self) -> None:
        """Remove what was spooled."""
        if self._spool:
            clear_spool(self._spool)

    def __enter__(self) -> SourceTree:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):
            self.close_spool()

    def _scan(self, source: Path) -> None:
        """List files below a folder by name alone; their state is asked for when they are looked up."""
        waiting = [(source, 0)]
        while waiting:
            folder, depth = waiting.pop()
            try:
                with os.scandir(folder) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                if not depth:
                    raise UserError(f"The folder {folder} cannot be read: {error.strerror}.") from error
                self._unreadable.append(str(folder))
                continue
            names = self._names.setdefault(folder.as_posix(), [])
            for entry in listed:
                if entry.name.startswith(".") or entry.name in _FOREIGN:
                    continue
                path = folder / entry.name
                if not entry.is_dir():
                    names.append(entry.name)
                    if not depth and is_archive(path):
                        self._archives.append(path)
                elif depth < _DEPTH and not (entry.is_symlink() and folder.resolve().is_relative_to(path.resolve())):
                    waiting.append((path, depth + 1))

    def _folders_on_disk(self, path: str, suffixes: Collection[str]) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for place in {os.path.realpath(place): place for place in self._names if _ends(place, path)}.values():
            names = [name for name in self._names[place] if PurePosixPath(name).suffix.lower() in suffixes]
            if names:
                found[place] = [Entry.of(Path(place, name)) for name in names]
        return found

    def _folders_in_archives(self, path: str, suffixes: Collection[str]) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for (_, place), inside in self._packed.items():
            entries = [entry for entry in inside.values() if entry.suffix in suffixes] if _ends(place, path) else []
            if entries:
                found[str(Path(str(entries[0])).parent)] = entries
        return found

    @cached_property
    def _packed(self) -> dict[tuple[Path, str], dict[str, Entry]]:
        """Files in archives by archive and folder, then by name; an archive counts as a folder of its name."""
        index: dict[tuple[Path, str], dict[str, Entry]] = {}
        for archive in {os.path.realpath(archive): archive for archive in self._archives}.values():
            compressed = is_compressed_tar(archive)
            if compressed and not (self._spooled and self._spool):
                continue
            container = spool_tar(archive, self._spooled, self._spool) if compressed and self._spool else archive
            top = without_ending(archive)
            for member, state in members_of(container).items():
                path = inner_path(member)
                folder, _, name = f"{top}/{path}".rpartition("/")
                if not name.startswith(".") and _FOREIGN.isdisjoint(path.split("/")):
                    entry = Entry(container, member, state, archive if compressed else None)
                    index.setdefault((archive, folder), {})[name] = entry
        return index


def _ends(place: str, path: str) -> bool:
    """Say whether a folder's path ends with the parts of another, which every path does where that is empty."""
    return not path or f"/{place}".endswith(f"/{path}")


def _refuse_several(path: str, found: Sequence[str]) -> None:
    if len(found) > 1:
        raise UserError(
            f'"{path}" was found more than once: {" and ".join(sorted(found))}; '
            "move the one that is not meant out of the way, or give a folder that holds only one."
        )


def _by_stem(entries: Sequence[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        other = found.setdefault(entry.stem, entry)
        if other is not entry:
            raise UserError(f"{other} and {entry} differ only in their ending; keep the one that is meant.")
    return dict(sorted(found.items()))
