"""Files that are written whole or not at all, and the folders of the user's own data and cache."""

from __future__ import annotations

import os
import platform
import re
import shutil
import threading
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from cascade_clip.errors import UserError

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


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files beside their places first and move them in only when all are complete.

    Args:
        contents: Content of each file; their folders are made where they do not exist.

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


def delete(entry: Path) -> None:
    """Delete a file, a link (not what it points to) or a folder, if it is there."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def check_folder(folder: Path, option: str) -> None:
    """Check before hours of work that a folder can be written to or made; it is not made yet.

    `option` is the option of the command line that named it, for the message.

    Raises:
        UserError: It is a file, lies below one, or may not be written to.
    """
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise UserError(f'{option} "{folder}" is no folder: "{nearest}" is a file. Choose another folder.')
    if not os.access(nearest, os.W_OK):
        raise UserError(f'{option} "{folder}" cannot be written to: you may not write in "{nearest}".')
