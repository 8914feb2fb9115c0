"""Compressed tar archives: what is wanted of them is written once into a plain tar, which can be read at any place."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import logging
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from cascade_clip.errors import UserError
from cascade_clip.preparation.archive_checks import MAX_MEMBER_BYTES, inner_path, refused, total_limit
from cascade_clip.preparation.archives import READ_ERRORS, checked_members, unreadable

_OPENERS: dict[str, Callable[[Path], object]] = {".bz2": bz2.open, ".xz": lzma.open}

log = logging.getLogger(__name__)


def spool_folder(output: Path) -> Path:
    """The hidden folder beside a prepared dataset where its compressed archives are spooled."""
    return output.absolute().with_name(f".{output.absolute().name}.sources")


def spool_tar(archive: Path, wanted: Sequence[str], spool: Path) -> Path:
    """Write the wanted members of a compressed tar into a plain one, in one pass.

    Args:
        archive: The compressed archive.
        wanted: Paths of files or folders, or their ends and beginnings ("dataset/cls"); a member is wanted whose path
            contains one of them.
        spool: Folder of the plain tar, made where it is not there.

    Returns:
        The plain tar, whose time of change is the archive's. One of an earlier start is taken as it is, if the archive
        has not changed since.

    Raises:
        UserError: The archive cannot be read, is damaged, cut off or hostile; the disk is full. No half-written file
            stays.
    """
    about = archive.stat()
    made_from = repr((str(archive.absolute()), about.st_size, about.st_mtime_ns, sorted(wanted)))
    target = spool / f"{archive.name}.{hashlib.sha256(made_from.encode()).hexdigest()[:12]}.tar"
    if target.is_file():
        return target
    log.info("Reading %s once from beginning to end.", archive)
    partial = target.with_name(f"{target.name}.part")
    try:
        spool.mkdir(parents=True, exist_ok=True)
        _copy(archive, frozenset(wanted), partial)
        os.utime(partial, ns=(about.st_mtime_ns, about.st_mtime_ns))
        partial.replace(target)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        why = "the disk is full; free some space" if full else error.strerror
        raise UserError(f"Files of {archive} could not be written into {spool}: {why}.") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return target


def clear_spool(spool: Path) -> None:
    """Remove every spooled archive of a folder, and the folder if nothing else is in it."""
    for path in [*spool.glob("*.tar"), *spool.glob("*.part")]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        spool.rmdir()


def _copy(archive: Path, wanted: frozenset[str], partial: Path) -> None:
    with _Unpacked(archive) as unpacked, tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as plain:
        for opened, info in checked_members(cast(IO[bytes], unpacked), archive):
            if wanted.isdisjoint(_sub_paths(info.name)):
                continue
            # Nothing but name and content counts; the same archive always gives the same bytes.
            copied = tarfile.TarInfo(info.name)
            copied.size = info.size
            plain.addfile(copied, opened.extractfile(info))
        unpacked.read_to_end()


def _sub_paths(name: str) -> list[str]:
    """All paths that are part of a path: of a/b/c these are a, a/b, a/b/c, b, b/c, c."""
    parts = inner_path(name).split("/")
    return ["/".join(parts[first:last]) for first in range(len(parts)) for last in range(first + 1, len(parts) + 1)]


class _Unpacked:
    """The uncompressed bytes of a compressed tar, read forward up to a sane length."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._limit = total_limit(archive)
        with self._one_sentence():
            self._file = cast(IO[bytes], _OPENERS.get(archive.suffix.lower(), gzip.open)(archive))

    def __enter__(self) -> _Unpacked:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int) -> int:
        # Before: what lies between is unpacked, and its length is only claimed by a header.
        self._check(offset)
        with self._one_sentence():
            return self._file.seek(offset)

    def read(self, size: int) -> bytes:
        if size > MAX_MEMBER_BYTES:
            raise refused(self._archive, f"a header claims {size:,} bytes, at most {MAX_MEMBER_BYTES:,} are accepted")
        with self._one_sentence():
            content = self._file.read(size)
        self._check(self._file.tell())
        return content

    def read_to_end(self) -> None:
        """Read what follows the tar's end, so that the checksum at the file's end is compared."""
        while self.read(1 << 20):
            pass

    def _check(self, end: int) -> None:
        if end > self._limit:
            raise refused(self._archive, f"it unpacks to more than {self._limit:,} bytes")

    @contextmanager
    def _one_sentence(self) -> Iterator[None]:
        try:
            yield
        except READ_ERRORS as error:
            raise unreadable(self._archive, error) from error
