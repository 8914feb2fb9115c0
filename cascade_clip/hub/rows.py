"""Rows of a dataset that the `datasets` library reads: from the Hub, an imagefolder, or a folder of Parquet files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from weakref import finalize

from cascade_clip.errors import UserError, closest
from cascade_clip.hub.hub_address import HubAddress, hub_error
from cascade_clip.hub.row_cursor import Row, RowCursor, shuffled_rows
from cascade_clip.hub.row_source import RowSource, SourceLostError


class Rows:
    """Rows by split and index; picklable, opened where it is first used."""

    def __init__(self, source: RowSource) -> None:
        self.source = source
        self._builder: Any = None
        self._splits: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._cursors: dict[str, tuple[object, RowCursor]] = {}
        self._of_parent: object = None
        self._owner = os.getpid()
        # A stream that is still open when Python ends complains about modules that are gone already.
        finalize(self, self._cursors.clear)

    def __reduce__(self) -> tuple[type[Rows], tuple[RowSource]]:
        return Rows, (self.source,)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self._opened())

    def features(self, split: str) -> Mapping[str, Any]:
        """Features by column."""
        return dict(self._split(split).features or {})

    def count(self, split: str) -> int:
        """Number of rows; where a stream does not say it, Parquet footers do, or one pass that counts."""
        if split not in self._counts:
            self._counts[split] = self._count(split) if self.source.stream else len(self._split(split))
        return self._counts[split]

    def row(self, split: str, index: int) -> Row:
        """Read one row.

        Args:
            split: Name of the split.
            index: 0 .. count(split) - 1. In a stream, a lower one than the last starts the stream anew.

        Returns:
            Values by column; images are dictionaries of `bytes` and `path`.

        Raises:
            SourceLostError: The row cannot be read, or the stream is shorter or longer than the dataset declares.
        """
        rows = self._split(split)
        with _reading(self.source):
            if not self.source.stream:
                return dict(rows[index])
            cursor = self._cursor("in order", split, lambda index: iter(rows.skip(index)))
            found = cursor.row(index)
            if found is not None and (index + 1 < self.count(split) or cursor.ended()):
                return found
        raise self._wrong_count(split)

    def shuffled(self, split: str, seed: int, epoch: int, place: int) -> Row:
        """Read the row at a place of a stream's epoch, whose order (seed, epoch) decides; like `row` otherwise."""
        rows = self._split(split)
        with _reading(self.source):
            cursor = self._cursor(
                "shuffled",
                (split, seed, epoch),
                lambda index: islice(shuffled_rows(rows, (seed, epoch)), index, None),
            )
            found = cursor.row(place)
        if found is None:
            raise self._wrong_count(split)
        return found

    def image_paths(self, split: str, column: str) -> list[str] | None:
        """Path of each row's image in an imagefolder; None elsewhere, where images have no files of their own."""
        if self._opened_builder().name != "imagefolder":
            return None
        rows = self._split(split).select_columns([column])
        with _reading(self.source):
            paths = [row[column]["path"] if row[column] else None for row in rows]
        return [str(path) for path in paths] if all(paths) else None

    def state(self, split: str) -> str:
        """A digest of the data files of a split, which changes when they do."""
        files = self._opened_builder().config.data_files or {}
        described = [(list(some), some.origin_metadata) for name, some in files.items() if str(name) == split]
        return hashlib.sha256(repr(described).encode()).hexdigest()[:16]

    def _cursor(self, use: str, key: object, start: Callable[[int], Iterator[Row]]) -> RowCursor:
        if use not in self._cursors or self._cursors[use][0] != key:
            self._cursors[use] = (key, RowCursor(start))
        return self._cursors[use][1]

    def _opened_builder(self) -> Any:
        if self._owner != os.getpid():
            # A forked loader process must not share open streams with its parent, nor close them: their threads stayed
            # there.
            self._of_parent = self._builder, self._splits, self._cursors
            self._builder, self._splits, self._cursors, self._owner = None, {}, {}, os.getpid()
        if self._builder is None:
            from datasets import load_dataset_builder

            place = self.source.place
            repository, revision = (str(place), None) if isinstance(place, Path) else (place.repo, place.revision)
            with _reading(self.source):
                self._builder = load_dataset_builder(repository, name=self.source.config, revision=revision)
        return self._builder

    def _opened(self) -> dict[str, Any]:
        builder = self._opened_builder()
        if not self._splits:
            with _reading(self.source):
                if self.source.stream:
                    found = builder.as_streaming_dataset()
                else:
                    # A card that declares other counts is no reason to refuse: here the rows themselves are counted.
                    builder.download_and_prepare(verification_mode="no_checks")
                    found = builder.as_dataset()
            self._splits = {str(name): _undecoded(rows) for name, rows in found.items()}
        return self._splits

    def _split(self, name: str) -> Any:
        opened = self._opened()
        if name not in opened:
            raise UserError(f'{self.source} has no split "{name}".{closest(name, opened)}')
        return opened[name]

    def _count(self, split: str) -> int:
        rows, builder = self._split(split), self._opened_builder()
        declared = (builder.info.splits or {}).get(split)
        if declared is not None and declared.num_examples:
            return int(declared.num_examples)
        with _reading(self.source):
            if builder.name == "parquet":
                return sum(_parquet_rows(file) for file in builder.config.data_files[split])
            return sum(1 for _ in rows)

    def _wrong_count(self, split: str) -> SourceLostError:
        return SourceLostError(
            f'The split "{split}" of {self.source} does not have the {self.count(split)} rows that the dataset '
            "declares. Leave --stream out, so that they are counted."
        )


@contextmanager
def _reading(source: RowSource) -> Iterator[None]:
    """Turn whatever `datasets` raises into one sentence; of its exceptions few have a type of their own."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(source.place, HubAddress):
            from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

            if isinstance(error, HfHubHTTPError | OfflineModeIsEnabled):
                raise SourceLostError(str(hub_error(error, source.place))) from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = " ".join(lines[:2])[:300].rstrip(".")
        raise SourceLostError(f"The dataset {source} cannot be read: {reason}.{_way_out(reason)}") from error


def _way_out(reason: str) -> str:
    if "scripts are no longer supported" in reason:
        return (
            " The Hub's own Parquet form of a dataset is its revision refs/convert/parquet; or download the files and "
            "use `cascade-clip prepare-data folder`."
        )
    if "Config name is missing" in reason or "BuilderConfig" in reason:
        return " The configuration is chosen with --config."
    if "data file" in reason:
        return " A folder of Parquet files is expected, or an imagefolder: images, masks and a metadata.jsonl."
    return " Check the network connection and the files, and repeat the command."


def _undecoded(rows: Any) -> Any:
    """The same rows with images as they are stored: decoding loses the files, and could lose palette indices."""
    from datasets import Image, IterableDataset

    if isinstance(rows, IterableDataset):
        # Casting the columns is not enough: on the Hub, threads that decode ahead stand in between.
        return rows.decode(False) if rows.features else rows
    for name, feature in rows.features.items():
        if isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
    return rows


def _parquet_rows(file: str) -> int:
    import pyarrow.parquet as pq
    from datasets.utils.file_utils import xopen

    with xopen(file, "rb") as opened:
        return int(pq.read_metadata(opened).num_rows)
