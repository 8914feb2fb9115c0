"""Files that are written whole or not at all, and the folders of the user's own data and cache."""

from __future__ import annotations

import json
import math
import os
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

    Args:
        record: Tables, lists, text, numbers, truth values and None.
        indent: Blanks a level; None: all on one line.
        ascii_only: Escape all other characters.
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
    """Write files beside their places first and move them in only when all are complete.

    Args:
        contents: Content of each file; their folders are made where they do not exist.

    Raises:
        OSError: A folder cannot be written to, or the disk is full; nothing half-written is left.
    """
    waiting = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            waiting[path].write_bytes(content)
        for path, temporary in waiting.items():
            temporary.replace(path)
    finally:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)


def usable_path(given: str | Path, what: str, beside: Callable[[Path], Path] | None = None) -> Path:
    """Take a path as the user wrote it, with `~` resolved. It need not exist.

    Args:
        given: The path.
        what: How a message begins: an option of the command line, or "The recipe".
        beside: Gives another path, which must be usable too.

    Raises:
        UserError: It is empty, or no path that this system can look up: a name that is too long, a folder that may not
            be looked into, links in a circle, `~NAME` of nobody.
    """
    if not str(given).strip():
        raise UserError(f"{what} is empty: give a path.")
    try:
        path = Path(given).expanduser()
        for looked_up in (path, *([beside(path)] if beside else [])):
            with suppress(FileNotFoundError, NotADirectoryError):
                looked_up.stat()
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f'{what} "{given}" cannot be used: {reason_of(error)}.') from error
    return path


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
