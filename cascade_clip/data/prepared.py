"""Reading a prepared dataset (DESIGN section 4.1); writing one is `write_prepared`, found again here."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cascade_clip.data.dataset_info import DatasetInfo, Part, read_dataset_info
from cascade_clip.data.dataset_location import dataset_home, locate_dataset
from cascade_clip.data.prepared_writer import write_prepared
from cascade_clip.data.shards import Sample
from cascade_clip.errors import UserError

__all__ = ["PreparedDataset", "Record", "Sample", "dataset_home", "locate_dataset", "write_prepared"]


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


class PreparedDataset:
    """Random access to the records of a prepared dataset; picklable, so that loader processes may hold one each."""

    def __init__(self, folder: Path, info: DatasetInfo) -> None:
        self.folder = folder
        self.info = info
        self._ends = {
            part: list(accumulate(shard.images for shard in content.shards.values()))
            for part, content in info.parts.items()
        }
        self._files: dict[Path, pq.ParquetFile] = {}
        self._owner = os.getpid()

    @classmethod
    def open(cls, folder: Path | str) -> PreparedDataset:
        """Open a prepared dataset and check that its shards are there in full length.

        Args:
            folder: The dataset's folder.

        Returns:
            The dataset.

        Raises:
            UserError: The folder is no prepared dataset, or a shard is missing or cut off.
        """
        folder = Path(folder)
        info = read_dataset_info(folder)
        for content in info.parts.values():
            for name, shard in content.shards.items():
                path = folder / name
                found = path.stat().st_size if path.is_file() else None
                if found != shard.bytes:
                    state = "is missing" if found is None else f"has {found} bytes instead of {shard.bytes}"
                    raise UserError(f"The shard {path} {state}. Copy or prepare the dataset again.")
        return cls(folder, info)

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.info.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.info.classes

    @property
    def ignore(self) -> int:
        """Label value of ignored pixels: 255."""
        return self.info.ignore

    def count(self, part: Part) -> int:
        """Number of images in "train" or "val"; 0 where the dataset has no such part."""
        content = self.info.parts.get(part)
        return content.images if content else 0

    def check_classes(self, class_names: Sequence[str], split: str) -> None:
        """Make sure that the labels mean the classes of a split.

        Args:
            class_names: The split's class names in label order.
            split: The split's name, for the message.

        Raises:
            UserError: The names or their order differ.
        """
        expected = tuple(class_names)
        if self.class_names == expected:
            return
        if len(self.class_names) != len(expected):
            difference = f"it has {len(self.class_names)} classes, the split {len(expected)}"
        else:
            at = next(i for i, (a, b) in enumerate(zip(self.class_names, expected, strict=True)) if a != b)
            difference = f'its class {at} is "{self.class_names[at]}", the split\'s is "{expected[at]}"'
        raise UserError(f'The dataset {self.folder} does not hold the classes of the split "{split}": {difference}.')

    def read(self, part: Part, index: int) -> Record:
        """Read one record.

        Args:
            part: "train" or "val".
            index: 0 .. count(part) - 1.

        Returns:
            The record with its bytes as they were stored.

        Raises:
            IndexError: The index is outside.
            UserError: The shard is damaged.
        """
        if not 0 <= index < self.count(part):
            raise IndexError(f"{part} has {self.count(part)} images, index {index} is outside")
        number = bisect_right(self._ends[part], index)
        path = self.folder / list(self.info.parts[part].shards)[number]
        row = index - (self._ends[part][number - 1] if number else 0)
        try:
            content = _read_row(self._file(path), row)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"The shard {path} is damaged ({error}). Copy or prepare the dataset again.") from error
        return Record(content["id"], content["image"]["bytes"], content["label"]["bytes"], content["present"])

    def _file(self, path: Path) -> pq.ParquetFile:
        if self._owner != os.getpid():  # a forked loader process must not share open files with its parent
            self._files, self._owner = {}, os.getpid()
        if path not in self._files:
            self._files[path] = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        return self._files[path]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}


def _read_row(file: pq.ParquetFile, row: int) -> dict[str, Any]:
    """Read the row group that holds a row and take the row out of it; all groups but the last have the same length."""
    length = file.metadata.row_group(0).num_rows
    group = file.read_row_group(row // length, use_threads=False)
    content: dict[str, Any] = group.slice(row % length, 1).to_pylist()[0]
    return content
