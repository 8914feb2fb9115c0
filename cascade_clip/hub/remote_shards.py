"""Records of a prepared dataset whose shards lie elsewhere: on the Hub, on a server, in a bucket.

Nothing is written to the disk. A record costs one request, for the row group that holds it; a few row groups stay in
memory, so that reading in order asks once for each. The order of training is that of a dataset on this machine.
"""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.records import Record, ShardPlaces, record_of_row
from cascade_clip.errors import UserError
from cascade_clip.hub.range_files import RangeFiles

KEPT_BYTES = 64 << 20
"""Row groups that stay in memory, a process; the last one stays whatever its size."""

_FOOTER_GUESS = 64 << 10
_MAGIC = b"PAR1"


class RemoteShards:
    """Random access to the records of shards at an address; see `RecordReader`."""

    def __init__(self, files: RangeFiles, info: DatasetInfo) -> None:
        self.files = files
        self._places = ShardPlaces(info)
        self._footers: dict[str, pq.FileMetaData] = {}
        self._groups: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()

    def read(self, part: Part, index: int) -> Record:
        """Read one record.

        Raises:
            UserError: The shard is not there, cannot be reached, or is damaged.
        """
        name, size, row = self._places.find(part, index)
        try:
            length = self._footer(name, size).row_group(0).num_rows
            group = self._group(name, size, row // length)
            return record_of_row(group.slice(row % length, 1).to_pylist()[0])
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"The shard {self.files}/{name} is damaged or was replaced ({error}). Upload the dataset again."
            ) from error

    def _footer(self, name: str, size: int) -> pq.FileMetaData:
        """Columns and places of a shard's row groups, which stand at its end."""
        if name not in self._footers:
            tail = self.files.read(name, max(size - _FOOTER_GUESS, 0), size)
            if tail[-4:] != _MAGIC:
                raise pa.ArrowInvalid(f"it has no Parquet footer before byte {size}")
            length = int.from_bytes(tail[-8:-4], "little") + 8
            if len(tail) < length <= size:
                tail = self.files.read(name, size - length, size)
            # A file of nothing but this footer, because Arrow reads as far before the end as it sees fit.
            self._footers[name] = pq.read_metadata(io.BytesIO(_MAGIC + tail[-length:]))
        return self._footers[name]

    def _group(self, name: str, size: int, number: int) -> pa.Table:
        key = (name, number)
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        footer = self._footer(name, size)
        start, stop = _extent(footer.row_group(number))
        excerpt = _Excerpt(self.files.read(name, start, stop), start, size)
        file = pq.ParquetFile(excerpt, metadata=footer, page_checksum_verification=True)
        self._groups[key] = file.read_row_group(number, use_threads=False)
        while len(self._groups) > 1 and sum(group.nbytes for group in self._groups.values()) > KEPT_BYTES:
            self._groups.popitem(last=False)
        return self._groups[key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_footers": {}, "_groups": OrderedDict()}


def _extent(group: Any) -> tuple[int, int]:
    """First byte of a row group, and the byte after its last."""
    columns = [group.column(index) for index in range(group.num_columns)]
    starts = [column.dictionary_page_offset or column.data_page_offset for column in columns]
    stops = [start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)]
    return min(starts), max(stops)


class _Excerpt(io.RawIOBase):
    """A file of which one part is at hand; reading outside of it is an error."""

    def __init__(self, content: bytes, start: int, size: int) -> None:
        super().__init__()
        self._content = content
        self._start = start
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        first, last = self._at - self._start, stop - self._start
        if first < 0 or last > len(self._content):
            raise OSError(f"bytes {self._at} to {stop} were asked for outside of the part at hand")
        self._at = stop
        return self._content[first:last]
