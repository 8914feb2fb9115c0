"""Where a dataset lies that the `datasets` library reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cascade_clip.errors import UserError
from cascade_clip.hub.hub_address import HubAddress
from cascade_clip.hub.range_files import RangeFiles


class SourceLostError(UserError):
    """The source cannot be read, or not any more: the network failed, files are gone, or they hold something else."""


@dataclass(frozen=True)
class RowSource:
    """Where a dataset lies and how it is read."""

    place: Path | HubAddress
    """A folder by its absolute path, or a repository of the Hub."""
    config: str | None = None
    """Name of a configuration, where the dataset has several."""
    stream: bool = False
    """Read row by row as they come, keeping nothing on the disk."""

    def __str__(self) -> str:
        return str(self.place)

    @property
    def name(self) -> str:
        """The folder's name, or the repository's without its owner."""
        return self.place.name if isinstance(self.place, Path) else self.place.repo.rpartition("/")[2]

    @classmethod
    def find(
        cls, source: str | Path, *, revision: str | None = None, config: str | None = None, stream: bool = False
    ) -> RowSource:
        """Find a dataset and, on the Hub, the commit that is meant.

        Args:
            source: A folder, `ORG/NAME` or `hub:ORG/NAME[@REVISION]`.
            revision: Branch, tag or commit on the Hub.
            config: Name of a configuration.
            stream: Read without keeping anything on the disk.

        Raises:
            UserError: It is neither, or the Hub does not give it.
        """
        folder = Path(source).expanduser()
        if folder.is_dir():
            if revision:
                raise UserError(f'The folder {folder} has no revisions; --revision "{revision}" is for the Hub.')
            return cls(folder.resolve(), config, stream)
        text = str(source)
        address = HubAddress.parse(text)
        if address is None and text.count("/") == 1 and not text.startswith((".", "/", "~")):
            address = HubAddress.parse(f"hub:{text}")
        if address is None:
            raise UserError(f'"{text}" is neither a folder nor a dataset on the Hub, written ORG/NAME.')
        return cls(HubAddress(address.repo, revision or address.revision).pinned(), config, stream)

    def read_file(self, name: str) -> bytes | None:
        """Read a small file that lies beside the data; None where there is none."""
        if isinstance(self.place, HubAddress):
            return RangeFiles(str(self.place)).find(name)
        path = self.place / name
        return path.read_bytes() if path.is_file() else None
