"""Records of a dataset in somebody else's layout, converted while they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from cascade_clip.data.dataset_info import Part
from cascade_clip.data.images import encode_label
from cascade_clip.data.records import Record
from cascade_clip.errors import UserError
from cascade_clip.hub.row_loader import RowLoader
from cascade_clip.hub.row_source import SourceLostError
from cascade_clip.hub.rows import Rows
from cascade_clip.labels import IGNORED


class ForeignRecords:
    """Random access to rows that `datasets` keeps on the disk; see `RecordReader`."""

    def __init__(self, rows: Rows, splits: Mapping[Part, str], loader: RowLoader) -> None:
        self.rows = rows
        self.splits = splits
        self.loader = loader

    def read(self, part: Part, index: int) -> Record:
        """Read one record; raises UserError where the row cannot be used."""
        split = self.splits[part]
        return self._record(self.rows.row(split, index), f"{split}-{index:06d}")

    def _record(self, row: Mapping[str, Any], name: str) -> Record:
        file = (row[self.loader.columns.image] or {}).get("path")
        shown = f"{name} ({PurePosixPath(file.partition('::')[0]).name})" if file else name
        try:
            image, label = self.loader.load(row, f"{shown} of {self.rows.source}")
        except SourceLostError:
            raise
        except UserError as error:
            raise UserError(
                f"{error} A dataset that needs options or mending is prepared first: `cascade-clip prepare-data hub`."
            ) from error
        present = [int(value) for value in np.unique(label) if value != IGNORED]
        return Record(shown, image, encode_label(label), present)


class ForeignStream(ForeignRecords):
    """The same out of a stream; see `StreamReader`."""

    def read_shuffled(self, seed: int, epoch: int, place: int) -> Record:
        """Read the training record at a place of an epoch, whose order (seed, epoch) decides."""
        split = self.splits["train"]
        return self._record(self.rows.shuffled(split, seed, epoch, place), f"{split}-epoch{epoch}-{place:06d}")
