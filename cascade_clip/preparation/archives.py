"""Reading the members of zip and tar archives in place."""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from cascade_clip.errors import UserError
from cascade_clip.preparation.archive_checks import (
    check_link,
    check_name,
    check_size,
    check_total,
    damaged,
    refused,
)

State = tuple[int, ...]
"""What tells a member from another of the same name: bytes and CRC (zip); bytes, place and the archive's time (tar)."""

COMPRESSED_TARS = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
ARCHIVE_SUFFIXES = (".zip", ".tar", *COMPRESSED_TARS)

_LONGEST_LINK = 4096

# What Python's readers are known to raise on damaged archives.
READ_ERRORS = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
)


def is_archive(path: Path) -> bool:
    """Say whether a file's name is that of an archive that can be read."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def is_compressed_tar(path: Path) -> bool:
    """Say whether an archive must be unpacked from its beginning to reach anything in it."""
    return path.name.lower().endswith(COMPRESSED_TARS)


def without_ending(archive: Path) -> PurePosixPath:
    """The archive's path without ".zip", ".tar.gz" and the like."""
    ending = next(suffix for suffix in (*COMPRESSED_TARS, *ARCHIVE_SUFFIXES) if archive.name.lower().endswith(suffix))
    return PurePosixPath(archive.as_posix().removesuffix(archive.name[-len(ending) :]))


def members_of(archive: Path) -> dict[str, State]:
    """List the files in a zip or an uncompressed tar archive.

    Args:
        archive: The archive.

    Returns:
        The state of each file by the member's name as stored. Folders and links are left out.

    Raises:
        UserError: The archive cannot be read, is damaged, cut off, encrypted or hostile (see `archive_checks`).
    """
    try:
        return _zip_members(archive) if archive.suffix.lower() == ".zip" else _tar_members(archive)
    except READ_ERRORS as error:
        raise unreadable(archive, error) from error


def read_member(archive: Path, member: str, state: State) -> bytes:
    """Read one file of a zip or an uncompressed tar archive.

    Args:
        archive: The archive; a zip stays open for the next call.
        member: The name as stored.
        state: What `members_of` said of it.

    Returns:
        The file's bytes.

    Raises:
        UserError: The archive cannot be read, the member is damaged, or the archive was changed meanwhile.
    """
    read = _read_zip if archive.suffix.lower() == ".zip" else _read_tar
    try:
        content = read(archive, member, state)
    except READ_ERRORS as error:
        raise unreadable(archive / member, error) from error
    if content is None:
        raise UserError(f"{archive / member} was changed while it was being read; start again.")
    return content


def unreadable(path: Path, error: Exception) -> UserError:
    """The error for what a reader raised: the system's reason where it has one, else the archive is damaged."""
    if isinstance(error, OSError) and error.errno is not None:
        return UserError(f"{path} cannot be read: {error.strerror}.")
    return damaged(path, error)


def _zip_members(archive: Path) -> dict[str, State]:
    found: dict[str, State] = {}
    length = archive.stat().st_size
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            check_name(archive, info.filename)
            if info.is_dir():
                continue
            check_size(archive, info.filename, info.file_size, info.compress_size)
            if info.header_offset + info.compress_size > length:
                raise damaged(archive, f'its member "{info.filename}" lies behind its end')
            if stat.S_ISLNK(info.external_attr >> 16):
                _check_zip_link(archive, opened, info)
                continue
            if info.flag_bits & 1 or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                kind = "encrypted" if info.flag_bits & 1 else f"packed by the rare method {info.compress_type}"
                raise refused(archive, f'its member "{info.filename}" is {kind}')
            found[info.filename] = (info.file_size, info.CRC)
    check_total(archive, sum(state[0] for state in found.values()))
    return found


def _check_zip_link(archive: Path, opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    if info.file_size > _LONGEST_LINK:
        raise refused(archive, f'its member "{info.filename}" is a link of {info.file_size:,} bytes')
    check_link(archive, info.filename, opened.read(info).decode(errors="replace"))


@lru_cache(maxsize=8)
def _opened_zip(archive: Path, process: int, changed: int) -> zipfile.ZipFile:
    """An open zip of this process; a fork must not share the position in a file, nor a new file the old one's index."""
    return zipfile.ZipFile(archive)


def _read_zip(archive: Path, member: str, state: State) -> bytes | None:
    opened = _opened_zip(archive, os.getpid(), archive.stat().st_mtime_ns)
    try:
        info = opened.getinfo(member)
    except KeyError:
        return None
    if (info.file_size, info.CRC) != state:
        return None
    with opened.open(info) as file:
        # A number, because without one zipfile unpacks whatever is there before it compares with the size in its index.
        return file.read(info.file_size + 1)


def _tar_members(archive: Path) -> dict[str, State]:
    with archive.open("rb") as file:
        about = os.fstat(file.fileno())
        found: dict[str, State] = {}
        for _, info in checked_members(file, archive):
            if info.offset_data + info.size > about.st_size:
                raise damaged(archive, f'it ends within its member "{info.name}"')
            found[info.name] = (info.size, info.offset_data, about.st_mtime_ns)
    return found


def _read_tar(archive: Path, member: str, state: State) -> bytes | None:
    size, offset, changed = state
    with archive.open("rb") as file:
        if os.fstat(file.fileno()).st_mtime_ns != changed:
            return None
        file.seek(offset)
        content = file.read(size)
    return content if len(content) == size else None


def checked_members(file: IO[bytes], archive: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Go through the regular files of a tar archive, in order.

    Args:
        file: The archive's uncompressed bytes; it is only read forward.
        archive: The archive, for messages.

    Yields:
        The open archive and the member, whose content may be read until the next one is asked for.

    Raises:
        UserError: A member is hostile, or a header is damaged or missing.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=_WholeHeader) as opened:
            while (info := opened.next()) is not None:
                # All headers of a large archive would be kept otherwise.
                opened.members.clear()  # type: ignore[attr-defined]
                if _is_file(info, archive):
                    yield opened, info
    except (tarfile.TarError, ValueError) as error:
        raise damaged(archive, error) from error


def _is_file(info: tarfile.TarInfo, archive: Path) -> bool:
    """Check one member; folders and links that stay inside are passed over."""
    check_name(archive, info.name)
    check_size(archive, info.name, info.size)
    if info.issym() or info.islnk():
        check_link(archive, info.name, info.linkname, from_top=info.islnk())
    if info.issparse() or info.isdev():
        raise refused(archive, f'its member "{info.name}" is a device or a file with holes')
    return info.isreg()


class _WholeHeader(tarfile.TarInfo):
    """Headers that tell damage from the end of an archive, which `tarfile` takes for the same after the first one."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _WholeHeader:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if str(error) == "end of file header":
                raise
            raise tarfile.ReadError(f"at byte {tarfile_.offset:,}: {error}") from error
