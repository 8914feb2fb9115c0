"""Zip and tar archives, read in place; nothing is ever unpacked to paths that an archive names.

A compressed tar cannot be read by position, so it is decompressed once into a plain tar beside the output. (fsspec's
tar file system decompresses again for every step backwards: 168 ms a file for 6,000 files of 8 kB.)
"""

import bz2
import errno
import gzip
import hashlib
import logging
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from cascade_clip.errors import UserError

MemberState = tuple[int, ...]
"""Tells a member from another of the same name. Zip: bytes and CRC; tar: bytes, position, time of the archive in ns."""

_DECOMPRESSORS: dict[str, Callable[[Path], Any]] = {
    ".tgz": gzip.open,
    ".tar.gz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tar.xz": lzma.open,
}
ARCHIVE_SUFFIXES = (".zip", ".tar", *_DECOMPRESSORS)
"""Endings of the archives that can be read."""

# COCO's archive of panoptic annotations, which may be beside the others, holds archives of several hundred megabytes.
_MAX_MEMBER_BYTES = 2 << 30
# Images and masks shrink far less than by this factor; contents below the second figure are never refused.
_MAX_RATIO, _SMALL_BYTES = 200, 64 << 20

READ_ERRORS = (
    *(EOFError, KeyError, OSError, RuntimeError, ValueError),
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""What Python's readers raise on damaged archives; RuntimeError on encrypted ones."""

_AGAIN = "Get it again from its official address."

log = logging.getLogger(__name__)


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive that can be read."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def is_compressed_tar(path: Path) -> bool:
    """Whether an archive has to be decompressed from its beginning to reach anything in it."""
    return path.name.lower().endswith(tuple(_DECOMPRESSORS))


def without_suffix(archive: Path) -> PurePosixPath:
    """The archive's path without ".zip", ".tar.gz" and the like."""
    return PurePosixPath(archive.as_posix()[: -len(_suffix(archive))])


def _suffix(archive: Path) -> str:
    return next(suffix for suffix in ARCHIVE_SUFFIXES if archive.name.lower().endswith(suffix))


def inner_path(name: str) -> str:
    """A member's name with `/` between its parts, as programs for Windows do not always write it."""
    return name.replace("\\", "/").removeprefix("./").strip("/")


def list_members(archive: Path, named: Path) -> dict[str, MemberState]:
    """List the regular files in a zip or an uncompressed tar, not folders, links and devices: state by name as stored.

    Messages call the archive `named`. Raises UserError where it cannot be read, is damaged or cut off, or declares a
    size that no set of images has.
    """
    with _one_sentence(named):
        found, total, length = dict[str, MemberState](), 0, archive.stat().st_size
        for name, state in _zip_members(archive) if archive.suffix.lower() == ".zip" else _tar_members(archive):
            if not 0 <= state[0] <= _MAX_MEMBER_BYTES:
                why = f'its member "{name}" declares {state[0]:,} bytes; 0 to {_MAX_MEMBER_BYTES:,} are accepted'
                raise UserError(f"The archive {named} is refused: {why}. {_AGAIN}")
            total += state[0]
            _check_total(named, total, length)
            found[name] = state
        return found


def read_member(archive: Path, member: str, state: MemberState) -> bytes:
    """Read one file of a zip, which stays open for the next call, or of an uncompressed tar; see `list_members`.

    Raises UserError where it cannot be read, the member is damaged, or the archive was changed meanwhile.
    """
    with _one_sentence(archive / member):
        if archive.suffix.lower() == ".zip":
            opened = _opened_zip(archive, archive.stat().st_mtime_ns)
            info = opened.NameToInfo.get(member)
            if info and (info.file_size, info.CRC) == state:
                with opened.open(info) as inside:
                    # Without a number zipfile decompresses all that is there before it compares with the index.
                    return inside.read(info.file_size + 1)
        else:
            size, offset, changed = state
            with archive.open("rb") as file:
                file.seek(offset)
                content = file.read(size)
                if len(content) == size and os.fstat(file.fileno()).st_mtime_ns == changed:
                    return content
    raise UserError(f"{archive / member} was changed while it was being read; start again.")


@lru_cache(maxsize=8)
def _opened_zip(archive: Path, changed: int) -> zipfile.ZipFile:
    """An open zip; one that was changed is opened anew. Processes that prepare are spawned, so that none is shared."""
    return zipfile.ZipFile(archive)


def _zip_members(archive: Path) -> Iterator[tuple[str, MemberState]]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
                yield info.filename, (info.file_size, info.CRC)


def _tar_members(archive: Path) -> Iterator[tuple[str, MemberState]]:
    with archive.open("rb") as file:
        changed = os.fstat(file.fileno()).st_mtime_ns
        with tarfile.open(fileobj=file, mode="r:") as opened:
            while (info := opened.next()) is not None:
                opened.members.clear()  # type: ignore[attr-defined]  # all headers of a large archive would be kept
                # A negative size, which `list_members` refuses, would lead back to earlier members for ever.
                if info.size < 0 or (info.isreg() and not info.issparse()):
                    yield info.name, (info.size, info.offset_data, changed)
            # tarfile takes a missing or damaged header for the end, which is marked by blocks of zeros.
            file.seek(opened.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no header at byte {opened.offset:,}")


def spool_folder(output: Path) -> Path:
    """The hidden folder beside a prepared dataset for what compressed archives hold."""
    return output.absolute().with_name(f".{output.absolute().name}.sources")


def decompressed_tar(archive: Path, spool: Path) -> Path:
    """Decompress a tar into the folder `spool`; the copy of an earlier start is used if the archive is still the same.

    Raises UserError where the archive cannot be read, is damaged, cut off or of an absurd length, or the disk is full;
    no half-written file stays.
    """
    about = archive.stat()
    made_from = repr((str(archive.absolute()), about.st_size, about.st_mtime_ns))
    target = spool / f"{archive.name}.{hashlib.sha256(made_from.encode()).hexdigest()[:12]}.tar"
    if target.is_file():
        return target
    log.info("Reading %s once from beginning to end.", archive)
    partial = target.with_name(f"{target.name}.part")
    try:
        spool.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as plain:
            for chunk in _decompressed(archive):
                plain.write(chunk)
                _check_total(archive, plain.tell(), about.st_size)
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


def _decompressed(archive: Path) -> Iterator[bytes]:
    with _one_sentence(archive), _DECOMPRESSORS[_suffix(archive)](archive) as packed:
        while chunk := packed.read(1 << 20):
            yield chunk


def clear_spool(spool: Path) -> None:
    """Remove the plain tars of a folder, and the folder if nothing else is in it."""
    for path in [*spool.glob("*.tar"), *spool.glob("*.part")]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        spool.rmdir()


def _check_total(archive: Path, total: int, length: int) -> None:
    """Refuse an archive of `length` bytes that unpacks to more than images do."""
    if total > max(_SMALL_BYTES, _MAX_RATIO * length):
        why = f"its {length:,} bytes unpack to {total:,} or more; at most {_MAX_RATIO} times as many are accepted"
        raise UserError(f"The archive {archive} is refused: {why}. {_AGAIN}")


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """Turn errors of a reader into one sentence: the system's reason where there is one, else the file is damaged."""
    try:
        yield
    except READ_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        raise UserError(
            f"The archive {path} is damaged or cut off ({error}); download it again, or move it away."
        ) from error
