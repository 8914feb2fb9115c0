"""Rows of a dataset that the `datasets` library reads: from the Hub, an imagefolder, or a folder of Parquet files."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import finalize

import fsspec  # type: ignore[import-untyped]
import numpy as np
import pyarrow.parquet as pq
from datasets import Image, IterableDataset, data_files, load_dataset_builder
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from cascade_clip.data.hub_address import HubAddress, hub_error
from cascade_clip.errors import UserError, closest, readable
from cascade_clip.reachability import hub_or_cache

SHUFFLE_BUFFER = 500
"""Rows that are shuffled at once in a stream, which is never shuffled as a whole."""

Row = Mapping[str, Any]

_pattern_lock = Lock()


class SourceLostError(UserError):
    """The source cannot be read (any more): the network failed, files were removed or replaced."""


@dataclass(frozen=True)
class RowSource:
    """Place of a foreign dataset, and how it is read."""

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
        return readable(self.place.name) if isinstance(self.place, Path) else self.place.repo.rpartition("/")[2]

    @classmethod
    def find(
        cls, source: str | Path, *, revision: str | None = None, config: str | None = None, stream: bool = False
    ) -> RowSource:
        """Find a dataset and, on the Hub, the commit that is meant.

        `source` is a folder, `ORG/NAME` or `hub:ORG/NAME[@REVISION]`; `revision` a branch, tag or commit on the Hub.
        Raises UserError where it is neither a folder nor a dataset that the Hub gives access to, or a folder whose path
        the library `datasets` cannot take, or with a link to a folder in it.
        """
        folder = Path(source).expanduser()
        if folder.is_dir():
            if revision:
                raise UserError(f'The folder {folder} has no revisions; --revision "{revision}" is for the Hub.')
            place = folder.resolve()
            if "::" in str(place) or not str(place).isprintable():
                raise UserError(
                    f'The path "{place}" holds "::" or a character that cannot be printed, with which the library that '
                    "reads such folders cannot open files: rename the folder."
                )
            links = (path for at, names, _ in os.walk(place) for name in names if (path := Path(at, name)).is_symlink())
            seen = (path for path in links if "/." not in f"/{path.relative_to(place).as_posix()}")
            if link := next(seen, None):
                raise UserError(
                    f'"{link}" is a link to a folder; the library that reads such datasets would pass over what is in '
                    "it: put the folder itself there."
                )
            return cls(place, config, stream)
        text = str(source)
        address = HubAddress.parse(text)
        if address is None and text.count("/") == 1 and not text.startswith((".", "/", "~")):
            address = HubAddress.parse(f"hub:{text}")
        if address is None:
            raise UserError(f'"{text}" is neither a folder nor a dataset on the Hub, written ORG/NAME.')
        return cls(HubAddress(address.repo, revision or address.revision).pinned(), config, stream)

    def read_file(self, name: str) -> bytes | None:
        """Read a small file beside the data; None where there is none."""
        path = self.place.file(name) if isinstance(self.place, HubAddress) else self.place / name
        return path.read_bytes() if path is not None and path.is_file() else None


@contextmanager
def _literal_folders() -> Iterator[None]:
    """Let `datasets` take folders as they are named: it reads [ * ? in them as a pattern, so "set [12]" finds "set 1".

    It offers no way to say so. Every pattern that it looks up goes through the one function that is replaced here.
    """
    resolve: Callable[..., list[str]] = data_files.resolve_pattern

    def resolve_literally(pattern: str, base_path: str, *arguments: Any, **options: Any) -> list[str]:
        base = base_path if "://" in base_path else glob.escape(base_path)
        return resolve(pattern, base, *arguments, **options)

    with _pattern_lock:
        data_files.resolve_pattern = resolve_literally
        try:
            yield
        finally:
            data_files.resolve_pattern = resolve


class ForeignRows:
    """Rows by split and index; picklable, opened where it is first used."""

    def __init__(self, source: RowSource) -> None:
        self.source = source
        self._builder: Any = None
        self._splits: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._cursors: dict[str, _Cursor] = {}
        self._of_parent: object = None
        self._owner = os.getpid()
        # A stream that is still open when Python ends complains about modules that are gone already.
        finalize(self, self._cursors.clear)

    def __reduce__(self) -> tuple[type[ForeignRows], tuple[RowSource]]:
        return ForeignRows, (self.source,)

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self._opened())

    def features(self, split: str) -> Mapping[str, Any]:
        """Features by column."""
        return dict(self._split(split).features or {})

    def count(self, split: str) -> int:
        """Number of rows; for a stream without a declared number, from Parquet footers or by a pass that counts."""
        if split not in self._counts:
            self._counts[split] = self._count(split) if self.source.stream else len(self._split(split))
        return self._counts[split]

    def row(self, split: str, index: int) -> Row:
        """Read row 0 .. count(split) - 1; in a stream, a lower one than the last starts it again.

        Gives values by column; images are dictionaries of `bytes` and `path`. Raises SourceLostError where the row
        cannot be read, or the stream is shorter or longer than the dataset declares.
        """
        rows = self._split(split)
        with _reading(self.source):
            if not self.source.stream:
                return dict(rows[index])
        return self._streamed(split, index, rows, (split,))

    def shuffled(self, split: str, seed: int, epoch: int, place: int) -> Row:
        """Read the row at a place of a stream's epoch, whose order (seed, epoch) decides; like `row` otherwise.

        The order is that of `IterableDataset.shuffle`, and a later place is found by `skip`: a state taken with
        `state_dict` would lose the content of the shuffle buffer, so that the order would change where a run
        continues. `set_epoch` is not used because it does not reorder the files of a stream that skips rows; each
        epoch has a generator of its own instead.
        """
        rows = self._split(split).shuffle(generator=np.random.default_rng([seed, epoch]), buffer_size=SHUFFLE_BUFFER)
        return self._streamed(split, place, rows, (split, seed, epoch))

    def _streamed(self, split: str, index: int, rows: Any, key: tuple[object, ...]) -> Row:
        use = "in order" if len(key) == 1 else "shuffled"
        if use not in self._cursors or self._cursors[use].key != key:
            self._cursors[use] = _Cursor(rows, key)
        with _reading(self.source):
            found = self._cursors[use].row(index)
            if found is not None and (index + 1 < self.count(split) or self._cursors[use].row(index + 1) is None):
                return found
        raise SourceLostError(
            f'The split "{split}" of {self.source} does not have the {self.count(split)} rows that the dataset '
            "declares. Leave --stream out, so that they are counted."
        )

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

    def _opened_builder(self) -> Any:
        if self._owner != os.getpid():
            # A forked loader process must not share open streams with its parent, nor close them: their threads stayed
            # there.
            self._of_parent = self._builder, self._splits, self._cursors
            self._builder, self._splits, self._cursors, self._owner = None, {}, {}, os.getpid()
        if self._builder is None:
            place = self.source.place
            repository, revision = (str(place), None) if isinstance(place, Path) else (place.repo, place.revision)
            with _reading(self.source), _literal_folders() if isinstance(place, Path) else hub_or_cache():
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


class _Cursor:
    """Rows of a stream by index: forwards by reading on, backwards by starting anew."""

    def __init__(self, stream: Any, key: object) -> None:
        self.key = key
        self._stream = stream
        self._rows: Iterator[Row] = iter(())
        self._kept: dict[int, Row | None] = {}

    def row(self, index: int) -> Row | None:
        """The row at an index, of which the last two are kept; None where the stream ends before it."""
        if index not in self._kept:
            if not self._kept or index < max(self._kept):
                self._rows, self._kept = _rows_from(self._stream, index), {}
            try:
                for number in range(max(self._kept, default=index - 1) + 1, index + 1):
                    row = next(self._rows, None)
                    self._kept = dict([*self._kept.items()][-1:]) | {number: row}
            except BaseException:
                self._kept = {}  # what has failed once would seem to have ended
                raise
        return self._kept[index]


def _rows_from(stream: Any, index: int) -> Iterator[Row]:
    # In a loader process a stream's `__iter__` seeds the shuffling anew; `iter` gives the same order everywhere.
    for batch in stream.skip(index).iter(batch_size=1):
        yield {name: values[0] for name, values in batch.items()}


@contextmanager
def _reading(source: RowSource) -> Iterator[None]:
    """Turn whatever `datasets` raises into one sentence; of its exceptions few have a type of their own."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(source.place, HubAddress) and isinstance(error, HfHubHTTPError | OfflineModeIsEnabled):
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
    if isinstance(rows, IterableDataset):
        # Casting the columns is not enough: on the Hub, threads that decode ahead stand in between.
        return rows.decode(False) if rows.features else rows
    for name, feature in rows.features.items():
        if isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
    return rows


def _parquet_rows(file: str) -> int:
    with fsspec.open(file, "rb") as opened:
        return int(pq.read_metadata(opened).num_rows)
