"""Folders that are written as a whole: only what the toolkit wrote is replaced, and no file of the user's is lost."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from cascade_clip.errors import UserError, reason_of
from cascade_clip.files import cache_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that the toolkit writes, and how it recognises its own.

    `name` is what messages call it ("prepared dataset"); `record` a file of JSON that describes it and holds `keys` at
    least; `files` are patterns of everything that the toolkit writes, relative to the folder ("*": any characters);
    a folder without the `needed` files is not ours.
    """

    name: str
    record: str
    keys: frozenset[str]
    files: tuple[str, ...]
    needed: tuple[str, ...] = ()

    def lies_in(self, folder: Path) -> bool:
        """Whether the folder is one that the toolkit wrote, perhaps with files of the user's beside its own."""
        return record_has(folder / self.record, self.keys) and all((folder / name).is_file() for name in self.needed)

    def others(self, folder: Path, below: str = "") -> Iterator[str]:
        """Files and folders in such a folder that the toolkit did not write, relative to it."""
        for entry in sorted((folder / below).iterdir()):
            name = f"{below}{entry.name}"
            of_ours = any(pattern.startswith(f"{name}/") for pattern in self.files)
            if of_ours and entry.is_dir() and not entry.is_symlink():
                yield from self.others(folder, f"{name}/")
            elif not (of_ours or any(fnmatchcase(name, pattern) for pattern in (*self.files, ".*.part"))):
                yield name


def record_has(file: Path | bytes, keys: Collection[str]) -> bool:
    """Whether a file, or its content, is JSON of these keys at least, as a record of ours is; False: unreadable."""
    try:
        record = json.loads(file if isinstance(file, bytes) else file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(record, dict) and all(key in record for key in keys)


def check_own_files(files: Iterable[Path], is_own: bool | Callable[[Path], bool]) -> None:
    """Check before files are written that none of them would replace one that the toolkit did not write (UserError)."""
    for file in files:
        if os.path.lexists(file) and not (is_own(file) if callable(is_own) else is_own):
            raise UserError(f'"{file}" was not written by cascade-clip and is kept: choose another folder.')


def check_output_folder(
    folder: Path, kind: FolderKind, *, inputs: Iterable[Path] = (), overwrite: bool | None = None
) -> None:
    """Check that a folder can be written, or replaced, without any loss.

    `inputs` are files and folders that are read; `overwrite` says whether an earlier folder of the kind may be replaced
    (None: it may, and no option is named). Raises UserError where the folder is a file, is or contains an input, holds
    anything else than the kind, must not be replaced, or cannot be, as a mount point or what contains the working
    folder.
    """
    check_no_input(folder, inputs)
    if os.path.lexists(folder) and not folder.is_dir():
        what = "a file" if folder.exists() else "a broken link"
        raise UserError(f'"{folder}" is {what}, a folder is expected: choose another --output.')
    # Of "missing/../mine" only the resolved path is there.
    place = folder.resolve()
    if not place.is_dir():
        return
    found = sorted(entry.name for entry in place.iterdir())
    if found and not kind.lies_in(place):
        raise UserError(
            f'"{folder}" is not empty and holds no {kind.name} (there is "{found[0]}"): choose another --output.'
        )
    if found and overwrite is False:
        raise UserError(f'"{folder}" holds a {kind.name}: replace it with --overwrite, or choose another --output.')
    fixed = "is a mount point" if os.path.ismount(place) else ""
    if Path.cwd().is_relative_to(place):
        fixed = "contains the working folder"
    if fixed:
        inside = folder / kind.name.rpartition(" ")[2]
        raise UserError(f'"{folder}" {fixed} and cannot be replaced: choose another --output, such as "{inside}".')


def check_no_input(folder: Path, inputs: Iterable[Path]) -> None:
    """Check that a folder, links resolved, neither is nor contains anything that is read; raises UserError if it
    does."""
    folder_place = folder.resolve()
    if not folder_place.is_dir():
        return
    for given in inputs:
        # A link in the folder and what a link elsewhere points to are both lost with the folder.
        places = [given.absolute().parent.resolve() / given.name, given.resolve()] if os.path.lexists(given) else []
        for place in places:
            if any(above.exists() and above.samefile(folder_place) for above in (place, *place.parents)):
                verb = "is" if place.exists() and place.samefile(folder_place) else "contains"
                raise UserError(f'"{folder}" {verb} "{given}", which is read: choose another --output.')


def check_outside(folder: Path, inputs: Iterable[Path]) -> None:
    """Check that a folder, links resolved, neither is nor lies in one that is read (UserError): files between others'
    confuse."""
    place = folder.resolve()
    for given in inputs:
        if place.is_relative_to(given.resolve()):
            verb = "is" if place == given.resolve() else "lies in"
            raise UserError(f'"{folder}" {verb} "{given}", which is read: choose another folder.')


@contextmanager
def written_folder(folder: Path, kind: FolderKind) -> Iterator[Path]:
    """Write into a hidden folder, empty at first, beside the place, which it takes only when everything is written.

    Raises UserError where another process writes the same folder, or the disk refuses; then nothing of it is left.
    """
    place = folder.resolve()
    partial = place.with_name(f".{place.name}.writing")
    with only_writer(place):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            # Some libraries make files that are the owner's alone; these are for whoever may see the folder.
            for file in partial.iterdir():
                file.chmod(0o644)
            put_in_place(partial, place, kind)
        except OSError as error:
            raise UserError(
                f'"{folder}" could not be written: {reason_of(error)}. Free some space, or choose another folder.'
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def put_in_place(complete: Path, folder: Path, kind: FolderKind) -> None:
    """Move a complete folder to its place in one rename.

    An earlier folder is moved aside before and deleted after it; what the toolkit did not write returns from it. Links
    in `folder` must be resolved.
    """
    if folder.is_dir():
        drop_replaced(folder, kind)
        folder.rename(replaced_place(folder))
    complete.rename(folder)
    drop_replaced(folder, kind)


def drop_replaced(folder: Path, kind: FolderKind) -> None:
    """Delete an earlier folder that was moved aside, perhaps by a process that was killed since."""
    replaced = replaced_place(folder)
    if not replaced.is_dir():
        return
    for name in list(kind.others(replaced)):
        target = folder / name
        while os.path.lexists(target):
            target = target.with_name(f"{target.name}.replaced")
        target.parent.mkdir(parents=True, exist_ok=True)
        (replaced / name).rename(target)
    shutil.rmtree(replaced)


def replaced_place(folder: Path) -> Path:
    """Where an earlier folder lies from being moved aside until it is deleted."""
    return folder.with_name(f".{folder.name}.replaced")


def lock_file(folder: Path) -> Path:
    """The lock of a folder: not in it, as it may be replaced, nor beside it, where the file would stay."""
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return cache_folder() / "locks" / f"{name}.lock"


def take_lock(file: Path, taken: str) -> BaseFileLock:
    """Take a lock, which ends with `release` or with this process; its folder is made.

    Raises UserError (`taken`) where another process has it, OSError where the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(taken) from error
    return lock


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other processes of this machine from writing the same folder while the block runs (UserError if one does
    so)."""
    place, lock = lock_file(folder), None
    try:
        lock = take_lock(place, f'Another process is writing "{folder}": wait until it ends, or choose another place.')
    except OSError as error:
        logger.debug("%s is not locked, as %s cannot be written: %s", folder, place, reason_of(error))
    try:
        yield
    finally:
        if lock is not None:
            lock.release()
