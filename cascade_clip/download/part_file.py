"""A download that is not finished yet: `NAME.part`, what is known of its source, and its checksums so far."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cascade_clip.errors import UserError
from cascade_clip.files import write_files

CHUNK = 1 << 20

Report = Callable[[int, int | None], None]
"""Called with (bytes done, bytes in all or None where that is unknown)."""


@dataclass(frozen=True)
class Origin:
    """The answer of a server that a part is filled from."""

    address: str
    total: int | None
    """Bytes of the whole file as the server says."""
    etag: str | None
    last_modified: str | None

    def has_same_file(self, other: Origin) -> bool:
        """Whether another answer is about the same file, as far as both tell."""
        if None not in (self.total, other.total) and self.total != other.total:
            return False
        if self.address != other.address:  # what two servers call a version cannot be compared
            return True
        if self.etag and other.etag:
            return self.etag == other.etag
        return not (self.last_modified and other.last_modified) or self.last_modified == other.last_modified


class PartFile:
    """The beginning of a file, kept between attempts and between runs; used by one process at a time.

    Attributes:
        path: `NAME.part` beside the target.
        size: Bytes that can be relied on; 0 where it is not known where they came from.
        origin: Where they came from.
    """

    def __init__(self, target: Path, algorithms: Collection[str]) -> None:
        self.path = target.with_name(f"{target.name}.part")
        self._target = target
        self._origin_path = target.with_name(f"{target.name}.part.json")
        self._algorithms = algorithms
        self.origin = self._read_origin()
        self.size = self.path.stat().st_size if self.origin and self.path.is_file() else 0
        self._reset_digests()

    @property
    def digests(self) -> dict[str, str]:
        """Checksums of what is there, by algorithm; `catch_up` comes first."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def catch_up(self, report: Report) -> None:
        """Hash what an earlier run left."""
        if self._hashed == self.size:
            return
        self._reset_digests()
        for chunk in read_chunks(self.path):
            self._hash(chunk)
            report(self._hashed, self.size)

    def begin(self, origin: Origin, total: int | None) -> None:
        """Start from nothing.

        Args:
            origin: The answer that will fill it.
            total: Bytes to come, where known.

        Raises:
            UserError: They do not fit the disk, or the folder cannot be written.
        """
        self.discard()
        require_space(self.path.parent, total or 0, self._target.name)
        try:
            write_files({self._origin_path: json.dumps(asdict(origin)).encode()})
            self.path.write_bytes(b"")
        except OSError as error:
            raise self._explained(error) from error
        self.origin = origin

    @contextmanager
    def appending(self) -> Iterator[Callable[[bytes], None]]:
        """Open for writing at the end; gives a function that appends a chunk and hashes it.

        Raises:
            UserError: The disk is full or the file cannot be written; what is there stays.
        """
        # Without a buffer all that was received is on disk when the process is killed.
        with self.path.open("ab", buffering=0) as stream:

            def append(chunk: bytes) -> None:
                rest = memoryview(chunk)
                try:
                    while rest:
                        rest = rest[stream.write(rest) :]
                except OSError as error:
                    raise self._explained(error) from error
                self.size += len(chunk)
                self._hash(chunk)

            yield append

    def finish(self) -> None:
        """Put the complete file in place."""
        with self.path.open("rb+") as stream:
            os.fsync(stream.fileno())
        self.path.replace(self._target)
        self._origin_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what is there."""
        self.path.unlink(missing_ok=True)
        self._origin_path.unlink(missing_ok=True)
        self.origin = None
        self.size = 0
        self._reset_digests()

    def _read_origin(self) -> Origin | None:
        try:
            return Origin(**json.loads(self._origin_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _reset_digests(self) -> None:
        self._digests = {name: hashlib.new(name, usedforsecurity=False) for name in self._algorithms}
        self._hashed = 0

    def _hash(self, chunk: bytes) -> None:
        for digest in self._digests.values():
            digest.update(chunk)
        self._hashed += len(chunk)

    def _explained(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path} could not be written: {error.strerror}. What was fetched stays; mend that and repeat the "
            "command to continue."
        )


def read_chunks(path: Path) -> Iterator[bytes]:
    """Read a file piece by piece."""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def require_space(folder: Path, wanted: int, what: str) -> None:
    """Refuse to begin what cannot fit the disk.

    Args:
        folder: Where it shall lie; it exists.
        wanted: Bytes still to be written.
        what: What messages call it.

    Raises:
        UserError: There is less space than that.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise UserError(
            f"{what} needs {in_gigabytes(wanted)} more in {folder}, where only {in_gigabytes(free)} are free. "
            "Free some space or give another folder."
        )


def in_gigabytes(count: int) -> str:
    """A number of bytes for the reader, "19.34 GB"."""
    return f"{count / 1e9:.2f} GB"
