"""One record of a dataset, and what reads records, wherever they lie."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

from cascade_clip.data.dataset_info import DatasetInfo, Part


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
        """Read one record; raises UserError where it cannot be had or is damaged."""


@runtime_checkable
class StreamReader(RecordReader, Protocol):
    """Reads records out of a stream: going forward is cheap, every step back starts the stream anew."""

    def read_shuffled(self, seed: int, epoch: int, place: int) -> Record:
        """Read the training record at a place of an epoch, whose order (seed, epoch) decides."""


class ShardPlaces:
    """Which shard and which row of it an index stands for."""

    def __init__(self, info: DatasetInfo) -> None:
        self._shards = {part: list(content.shards.items()) for part, content in info.parts.items()}
        self._ends = {
            part: list(accumulate(shard.images for _, shard in shards)) for part, shards in self._shards.items()
        }

    def find(self, part: Part, index: int) -> tuple[str, int, int]:
        """Find a record: the shard's path inside the dataset, the shard's bytes, and the row."""
        number = bisect_right(self._ends[part], index)
        name, shard = self._shards[part][number]
        return name, shard.bytes, index - (self._ends[part][number - 1] if number else 0)


def record_of_row(row: Mapping[str, Any]) -> Record:
    """Make a record of a row of our own shards."""
    return Record(row["id"], row["image"]["bytes"], row["label"]["bytes"], row["present"])
