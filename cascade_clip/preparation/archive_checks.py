"""What an archive of images must not hold: members that leave it, devices, and contents of absurd size."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from cascade_clip.errors import UserError

MAX_MEMBER_BYTES = 2 << 30
"""A larger member is refused; what is read stays far below, but COCO's archive of panoptic annotations, which may lie
beside the others, holds nested archives of several hundred megabytes."""

MAX_RATIO = 200
"""An archive that grows by more is refused; images and masks shrink far less."""

SMALL_BYTES = 64 << 20
"""Below this a content is not absurd, however well it was packed."""

_DRIVE = re.compile(r"[A-Za-z]:")


def inner_path(name: str) -> str:
    """A member's name with `/` between its parts, as programs for Windows do not always write it."""
    return name.replace("\\", "/").removeprefix("./").rstrip("/")


def check_name(archive: Path, name: str) -> None:
    """Refuse a member that would lie outside of the folder an archive is unpacked to.

    Raises:
        UserError: The name is absolute, has a drive letter, or climbs with "..".
    """
    path = name.replace("\\", "/")
    if path.startswith("/") or _DRIVE.match(path) or ".." in path.split("/"):
        raise refused(archive, f'its member "{name}" would lie outside of the folder it is unpacked to')


def check_link(archive: Path, name: str, target: str, *, from_top: bool = False) -> None:
    """Refuse a link that points outside of the archive.

    Args:
        archive: The archive, for the message.
        name: The link's name.
        target: Where it points, seen from the link's folder.
        from_top: The target is seen from the top of the archive instead, as hard links are.

    Raises:
        UserError: The target lies outside.
    """
    target = target.replace("\\", "/")
    folder = "" if from_top else posixpath.dirname(inner_path(name))
    end = posixpath.normpath(posixpath.join(folder, target))
    if target.startswith("/") or _DRIVE.match(target) or end.split("/")[0] == "..":
        raise refused(archive, f'its member "{name}" is a link to "{target}", outside of the archive')


def check_size(archive: Path, name: str, size: int, packed: int | None = None) -> None:
    """Refuse a member of absurd size.

    Args:
        archive: The archive, for the message.
        name: The member.
        size: Its bytes.
        packed: The bytes it takes in the archive, where that is known.

    Raises:
        UserError: The size is negative, above `MAX_MEMBER_BYTES`, or above `SMALL_BYTES` and `MAX_RATIO` times the
            packed one.
    """
    if not 0 <= size <= MAX_MEMBER_BYTES:
        raise refused(archive, f'its member "{name}" claims {size:,} bytes, 0 to {MAX_MEMBER_BYTES:,} are accepted')
    if packed is not None:
        _check_ratio(archive, f'its member "{name}"', size, packed)


def check_total(archive: Path, size: int) -> None:
    """Refuse an archive whose content is absurdly large for its own length.

    Args:
        archive: The archive.
        size: Bytes of all members, or of those seen so far.

    Raises:
        UserError: The content is above `SMALL_BYTES` and `MAX_RATIO` times the archive.
    """
    _check_ratio(archive, "it", size, archive.stat().st_size)


def total_limit(archive: Path) -> int:
    """The most bytes that an archive may hold for `check_total` to accept it."""
    return max(SMALL_BYTES, MAX_RATIO * archive.stat().st_size)


def _check_ratio(archive: Path, what: str, size: int, packed: int) -> None:
    if size > max(SMALL_BYTES, MAX_RATIO * packed):
        raise refused(archive, f"{what} unpacks from {packed:,} to {size:,} bytes, at most {MAX_RATIO} times as many")


def refused(archive: Path, why: str) -> UserError:
    """The error for an archive that is not what it should be, however whole it is."""
    return UserError(f"The archive {archive} is refused: {why}; get it again from its official address.")


def damaged(archive: Path, why: object) -> UserError:
    """The error for an archive that is cut off or has wrong bytes."""
    return UserError(f"The archive {archive} is damaged or cut off ({why}); download it again, or move it away.")
