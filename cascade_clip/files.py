"""Files that are written whole or not at all, and the folders of the user's own data and cache."""

import json
import math
import os
import platform
import re
import shutil
import tempfile
import threading
import time
import unicodedata
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path, user_data_path

from cascade_clip.errors import UserError, reason_of

DATA_VARIABLE = "CASCADE_CLIP_DATA"
CACHE_VARIABLE = "CASCADE_CLIP_CACHE"


def data_folder() -> Path:
    """Folder that holds prepared datasets by name: `$CASCADE_CLIP_DATA`, else the user's data folder of the system."""
    given = os.environ.get(DATA_VARIABLE)
    return Path(given).expanduser() if given else user_data_path("cascade-clip", appauthor=False)


def cache_folder() -> Path:
    """Folder of files that can be made again: `$CASCADE_CLIP_CACHE`, else the user's cache folder of the system."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given).expanduser() if given else user_cache_path("cascade-clip", appauthor=False)


def json_text(record: Any, *, indent: int | None = 2, ascii_only: bool = False) -> str:
    """Write values as JSON with a last line's end; NaN and infinity, which JSON does not have, become null.

    `indent` are blanks a level (None: all on one line); `ascii_only` escapes all other characters.
    """
    values = _without_infinities(record)
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only, allow_nan=False)
    # Names of files that are no UTF-8 cannot be written as they are.
    broken = any("\ud800" <= character <= "\udfff" for character in text)
    return (json.dumps(values, indent=indent, allow_nan=False) if broken else text) + "\n"


def _without_infinities(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_infinities(one) for key, one in value.items()}
    return [_without_infinities(one) for one in value] if isinstance(value, list | tuple) else value


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files beside their places first and move them in only when all are complete; folders are made.

    Raises:
        OSError: A folder cannot be written to, or the disk is full; nothing half-written is left.
    """
    waiting: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            waiting[path] = waiting_place(path)
            waiting[path].write_bytes(content)
        for path, temporary in waiting.items():
            temporary.replace(path)
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)


def composed(name: str) -> str:
    """A name in the Unicode form in which names are compared (NFC): file systems and tools differ in it."""
    return unicodedata.normalize("NFC", name)


def usable_path(given: str | Path, what: str, beside: Callable[[Path], Path] | None = None) -> Path:
    """Take a path as the user wrote it, with `~` resolved. It need not exist; `beside` gives another that must be
    usable.

    `what` is how a message begins: an option of the command line, or "The recipe". Raises UserError where it is empty,
    or no path that this system can look up: a name that is too long, a folder that may not be looked into, links in a
    circle, `~NAME` of no user.
    """
    if not str(given).strip():
        raise UserError(f"{what} is empty: give a path.")
    try:
        path = Path(given).expanduser()
        for looked_up in (path, *([beside(path)] if beside else [])):
            with suppress(FileNotFoundError, NotADirectoryError):
                looked_up.stat()
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise UserError(f'{what} "{given}" cannot be used: {reason_of(error)}.') from error
    return path


def _waiting_place(path: Path) -> Path:
    """The longest name under which something lies beside its place until it is complete."""
    return path.absolute().parent / f".{path.absolute().name}.4194304.preparing"


_NODE = f"{zlib.crc32(platform.node().encode()) & 0xFFFF:04x}"
_WAITING = re.compile(r"\..*\.(\d+)-([0-9a-f]{4})\.part", re.DOTALL)
_ABANDONED_AFTER = 24 * 3600.0
_looked_through: set[Path] = set()
_looking = threading.Lock()


def waiting_place(path: Path) -> Path:
    """Where a file or folder lies until it is complete: hidden beside its place, under a name of this process alone.

    What killed processes left in that folder is removed the first time that this process asks for it.
    """
    folder = path.absolute().parent
    with _looking:
        if folder not in _looked_through:
            # Even where it is still to be made: what appears in it later is this process's own.
            _looked_through.add(folder)
            for entry in list(folder.iterdir()) if folder.is_dir() else []:
                if (found := _WAITING.fullmatch(entry.name)) and _is_abandoned(entry, int(found[1]), found[2]):
                    delete(entry)
    return path.with_name(f".{path.name}.{os.getpid()}-{_NODE}.part")


def _is_abandoned(entry: Path, process: int, node: str) -> bool:
    """Whether nobody writes there any more: its process has ended, or for those of other machines, a day has passed."""
    if process == os.getpid() and node == _NODE:
        return True
    if node == _NODE and os.name == "posix":
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
    try:
        return time.time() - entry.lstat().st_mtime > _ABANDONED_AFTER
    except OSError:
        return False


def replace_files(folder: Path, waiting: Path, pattern: str) -> None:
    """Move the files of `waiting` into another folder in place of those of a pattern; delete either folder if empty.

    Raises OSError where the files cannot be moved.
    """
    for earlier in folder.glob(pattern):
        earlier.unlink()
    for file in sorted(waiting.glob("*")):
        folder.mkdir(exist_ok=True)
        file.replace(folder / file.name)
    for place in (folder, waiting):
        with suppress(OSError):  # it is not there, or holds files
            place.rmdir()


def delete(entry: Path) -> None:
    """Delete a file, a link (not what it points to) or a folder, if it is there."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def check_folder(folder: Path, option: str) -> None:
    """Check before hours of work that a folder, named by an option, can be written to or made; it is not made yet.

    Raises UserError where it is a file, lies below one, may not be written to, its name is too long, or the disk is
    full.
    """
    _check_writable(usable_path(folder, option, _waiting_place), f'{option} "{folder}"')


def _check_writable(place: Path, named: str) -> None:
    nearest = next(above for above in (place, *place.absolute().parents) if above.exists())
    if not nearest.is_dir():
        raise UserError(f'{named} is no folder: "{nearest}" is a file. Choose another folder.')
    try:
        # No file appears: it has no name, or is removed at once where the system knows no files without names.
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(b"0")
    except OSError as error:
        raise UserError(
            f'{named} cannot be written: nothing can be written in "{nearest}" ({_writing(error)}).'
            " Choose another folder."
        ) from error


def check_output_file(file: Path, option: str) -> None:
    """Check before hours of work that a file can be written, in a folder that exists or can be made.

    Raises UserError where it is a folder, or its folder is none that `check_folder` accepts.
    """
    place = usable_path(file, option, _waiting_place)
    if place.is_dir():
        raise UserError(f'{option} "{file}" is a folder: a file is expected, for example {place / "result"}.')
    if not place.exists() or place.is_file():  # else it is a device or a pipe
        _check_writable(place.absolute().parent, f'{option} "{file}"')


def check_input_file(file: Path, option: str) -> None:
    """Check that a file can be read, before anything slow is begun.

    Raises UserError where it does not exist, is a folder, or may not be read.
    """
    place = usable_path(file, option)
    if not place.exists():
        raise UserError(f'There is no file "{file}" for {option}.')
    if place.is_dir():
        raise UserError(f'{option} "{file}" is a folder, a file is expected.')
    if place.is_file():  # a pipe would lose what is read here
        try:
            with place.open("rb") as opened:
                opened.read(1)
        except OSError as error:
            raise UserError(f'{option} "{file}" cannot be read: {reason_of(error)}.') from error


def _writing(error: OSError) -> str:
    """Why nothing can be written; a file system that makes no files, as /proc, says that there is no such file."""
    return "it is no place for files" if isinstance(error, FileNotFoundError) else reason_of(error)
