"""One file that a dataset is made from, in a folder or in an archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cascade_clip.errors import UserError
from cascade_clip.preparation.archive_checks import inner_path
from cascade_clip.preparation.archives import read_member, without_ending


@dataclass(frozen=True)
class Entry:
    """One file, lying in a folder or inside an archive; picklable, and its `repr` says all of it."""

    container: Path
    """The file itself, or the archive that holds it."""
    member: str | None
    """Name inside the archive as stored there; None: `container` is the file."""
    state: tuple[int, ...]
    """What changes with the content, so that a resumed run notices: bytes and time of change, or `archives.State`."""
    archive: Path | None = None
    """The archive as the user knows it, where `container` holds a copy of what was needed of it."""

    @classmethod
    def of(cls, path: Path) -> Entry:
        """The entry of a file that lies in a folder.

        Raises:
            UserError: The file is not there or cannot be reached.
        """
        try:
            about = path.stat()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        return cls(path, None, (about.st_size, about.st_mtime_ns))

    @property
    def name(self) -> str:
        """Last part of the path, for example "000000000009.jpg"."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """The name's ending in lower case, for example ".jpg"."""
        return self._path.suffix.lower()

    @property
    def place(self) -> PurePosixPath:
        """The file's path, an archive counting as a folder of its name: ".../train2017/train2017/000000000009.jpg"."""
        if self.member is None:
            return PurePosixPath(self.container.as_posix())
        return without_ending(self.archive or self.container) / inner_path(self.member)

    def read(self) -> bytes:
        """Read the whole file; archives stay open, one handle a process.

        Raises:
            UserError: It cannot be read, is damaged in its archive, or the archive was changed meanwhile.
        """
        if self.member is not None:
            return read_member(self.container, self.member, self.state)
        try:
            return self.container.read_bytes()
        except OSError as error:
            raise UserError(f"{self} cannot be read: {error.strerror}.") from error

    def __str__(self) -> str:
        """The path for messages: "/data/train2017.zip/train2017/000000000009.jpg"."""
        shown = self.archive or self.container
        return str(shown if self.member is None else shown / inner_path(self.member))

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(self.container.name if self.member is None else inner_path(self.member))
