"""Records of a dataset, and reading them from local or remote Parquet shards."""

import os
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq

from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.remote_files import RemoteFiles
from cascade_clip.errors import UserError, raise_refusal

KEPT_BYTES = 64 << 20
"""Row groups of a remote dataset that a process keeps in memory; the last one is kept whatever its size."""


@dataclass(frozen=True)
class Record:
    """One image with its label, still encoded."""

    id: str
    image_bytes: bytes
    """The original image file."""
    label_bytes: bytes
    """8-bit single-channel PNG: class index, 255 = ignored."""
    present: list[int]
    """Class indices in the label, rising."""


class RecordReader(Protocol):
    """Reads records by part and index; picklable, and may be used after a fork."""

    def read(self, part: Part, index: int) -> Record:
        """Read one record; raises UserError where it is damaged or cannot be reached."""


@runtime_checkable
class StreamReader(RecordReader, Protocol):
    """Reads records out of a stream: going forward is cheap, every step back starts the stream again."""

    def read_shuffled(self, seed: int, epoch: int, place: int) -> Record:
        """Read the training record at a place of an epoch, whose order (seed, epoch) decides."""


class _Shards:
    """Finds records in shards and reads their row groups; subclasses open the shards."""

    def __init__(self, info: DatasetInfo) -> None:
        self._shards = {part: list(content.shards.items()) for part, content in info.parts.items()}
        self._ends = {
            part: list(accumulate(shard.images for _, shard in shards)) for part, shards in self._shards.items()
        }
        self._files: dict[str, pq.ParquetFile] = {}
        self._owner = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def _find(self, part: Part, index: int) -> tuple[str, int, int]:
        """The shard's path inside the dataset, its size in bytes, and the record's row."""
        number = bisect_right(self._ends[part], index)
        name, shard = self._shards[part][number]
        return name, shard.bytes, index - (self._ends[part][number - 1] if number else 0)

    def _record(self, name: str, size: int, index: int) -> Record:
        if self._owner != os.getpid():  # a forked loader process must not share open files with its parent
            self._files, self._owner = {}, os.getpid()
        if name not in self._files:
            self._files[name] = self._open(name, size)
        # All row groups but the last have the same length.
        length: int = self._files[name].metadata.row_group(0).num_rows
        row = self._group(name, index // length).slice(index % length, 1).to_pylist()[0]
        return Record(row["id"], row["image"]["bytes"], row["label"]["bytes"], row["present"])

    def _open(self, name: str, size: int) -> pq.ParquetFile:
        raise NotImplementedError

    def _group(self, name: str, number: int) -> pa.Table:
        return self._files[name].read_row_group(number, use_threads=False)


class LocalShards(_Shards):
    """Records of the shards in a folder; see `RecordReader`."""

    def __init__(self, folder: Path, info: DatasetInfo) -> None:
        super().__init__(info)
        self.folder = folder

    def read(self, part: Part, index: int) -> Record:
        """Read one record; raises UserError where the shard is damaged."""
        name, size, row = self._find(part, index)
        try:
            return self._record(name, size, row)
        except (pa.ArrowException, OSError) as error:
            raise_refusal(error, f"The shard {self.folder / name}")
            raise UserError(
                f"The shard {self.folder / name} is damaged ({error}). Copy or prepare the dataset again."
            ) from error

    def _open(self, name: str, size: int) -> pq.ParquetFile:
        return pq.ParquetFile(self.folder / name, memory_map=True, page_checksum_verification=True)


class RemoteShards(_Shards):
    """Records of the shards at an address; see `RecordReader`.

    Nothing is written to the disk. A record costs one request, for the row group that holds it, and a few row groups
    stay in memory, so that reading in order asks once for each.
    """

    def __init__(self, address: str, info: DatasetInfo) -> None:
        super().__init__(info)
        self.files = RemoteFiles(address)
        self._groups: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_groups": OrderedDict()}

    def read(self, part: Part, index: int) -> Record:
        """Read one record; raises UserError where the shard is missing, damaged or cannot be reached."""
        name, size, row = self._find(part, index)
        try:
            return self.files.attempt(name, lambda: self._record(name, size, row))
        except FileNotFoundError as error:
            raise UserError(
                f"{self.files}/{name} is not there. Check the address, or upload the dataset again."
            ) from error
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"The shard {self.files}/{name} is damaged or was replaced ({error}). Upload the dataset again."
            ) from error

    def _open(self, name: str, size: int) -> pq.ParquetFile:
        # With `pre_buffer` the columns of a row group, which lie side by side, are fetched by a single request.
        return pq.ParquetFile(self.files.open(name, size), pre_buffer=True, page_checksum_verification=True)

    def _group(self, name: str, number: int) -> pa.Table:
        key = (name, number)
        if key not in self._groups:
            self._groups[key] = super()._group(name, number)
            while len(self._groups) > 1 and sum(group.nbytes for group in self._groups.values()) > KEPT_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        return self._groups[key]


def check_shard_files(folder: Path, info: DatasetInfo) -> None:
    """Raise UserError where a shard is missing or cut off."""
    for content in info.parts.values():
        for name, shard in content.shards.items():
            path = folder / name
            found = path.stat().st_size if path.is_file() else None
            if found != shard.bytes:
                state = "is missing" if found is None else f"has {found} bytes instead of {shard.bytes}"
                raise UserError(f"The shard {path} {state}. Copy or prepare the dataset again.")
