"""Records of a prepared dataset whose shards lie in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.records import Record, ShardPlaces, record_of_row
from cascade_clip.errors import UserError


class ShardFiles:
    """Random access to the records of a folder of shards; see `RecordReader`."""

    def __init__(self, folder: Path, info: DatasetInfo) -> None:
        self.folder = folder
        self._places = ShardPlaces(info)
        self._files: dict[Path, pq.ParquetFile] = {}
        self._owner = os.getpid()

    def read(self, part: Part, index: int) -> Record:
        """Read one record.

        Raises:
            UserError: The shard is damaged.
        """
        name, _, row = self._places.find(part, index)
        path = self.folder / name
        try:
            return record_of_row(_read_row(self._file(path), row))
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"The shard {path} is damaged ({error}). Copy or prepare the dataset again.") from error

    def _file(self, path: Path) -> pq.ParquetFile:
        if self._owner != os.getpid():  # a forked loader process must not share open files with its parent
            self._files, self._owner = {}, os.getpid()
        if path not in self._files:
            self._files[path] = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        return self._files[path]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}


def check_shard_files(folder: Path, info: DatasetInfo) -> None:
    """Make sure that all shards are there in full length.

    Raises:
        UserError: A shard is missing or cut off.
    """
    for content in info.parts.values():
        for name, shard in content.shards.items():
            path = folder / name
            found = path.stat().st_size if path.is_file() else None
            if found != shard.bytes:
                state = "is missing" if found is None else f"has {found} bytes instead of {shard.bytes}"
                raise UserError(f"The shard {path} {state}. Copy or prepare the dataset again.")


def _read_row(file: pq.ParquetFile, row: int) -> dict[str, Any]:
    """Read the row group that holds a row and take the row out of it; all groups but the last have the same length."""
    length = file.metadata.row_group(0).num_rows
    group = file.read_row_group(row // length, use_threads=False)
    content: dict[str, Any] = group.slice(row % length, 1).to_pylist()[0]
    return content
