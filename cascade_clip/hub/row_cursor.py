"""Reading a stream by index, and in an order that a seed decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

SHUFFLE_BUFFER = 500
"""Rows among which the next one of a shuffled stream is drawn; a stream is never shuffled as a whole."""

_FILES_AT_ONCE = 4

Row = Mapping[str, Any]


class RowCursor:
    """Rows of a stream by index: one after the other, forward jumps by skipping, every step back by starting anew."""

    def __init__(self, start: Callable[[int], Iterator[Row]]) -> None:
        """Read from what `start` gives: the rows from an index on; nothing is opened yet."""
        self._start = start
        self._rows: Iterator[Row] | None = None
        self._last: Row | None = None
        self._next = 0

    def row(self, index: int) -> Row | None:
        """The row at an index; None where the stream has ended before it."""
        if self._rows is not None and index == self._next - 1:
            return self._last
        if self._rows is None or index < self._next:
            self._rows, self._next = self._start(index), index
        try:
            while self._next <= index:
                self._last = next(self._rows, None)
                self._next += 1
        except BaseException:
            self._rows = None  # what has failed once would seem to have ended
            raise
        return self._last

    def ended(self) -> bool:
        """Whether no row comes after the last one that was read."""
        last = self._last
        rest = self.row(self._next)
        self._last, self._next = last, self._next - 1
        return rest is None


def shuffled_rows(stream: Any, seed: Sequence[int]) -> Iterator[Row]:
    """Read a stream in an order that the seed alone decides.

    `IterableDataset.shuffle` does not serve here: in a loader process it draws from another generator, so that the
    order would depend on the number of workers.

    Args:
        stream: A `datasets.IterableDataset`.
        seed: Whole numbers, 0 or more.

    Yields:
        Every row once: files in a drawn order, a few side by side, and rows drawn from a buffer.
    """
    rng = np.random.default_rng(list(seed))
    files = [int(number) for number in rng.permutation(stream.num_shards)]
    buffer: list[Row] = []
    for row in _side_by_side(iter(stream.shard(stream.num_shards, number)) for number in files):
        if len(buffer) < SHUFFLE_BUFFER:
            buffer.append(row)
            continue
        place = int(rng.integers(SHUFFLE_BUFFER))
        yield buffer[place]
        buffer[place] = row
    for place in rng.permutation(len(buffer)):
        yield buffer[place]


def _side_by_side(files: Iterator[Iterator[Row]]) -> Iterator[Row]:
    """Take rows from a few files in turn, from the next file where one ends."""
    opened = list(islice(files, _FILES_AT_ONCE))
    while opened:
        for place, file in enumerate(opened):
            row = next(file, None)
            if row is not None:
                yield row
                continue
            following = next(files, None)
            if following is None:
                opened.pop(place)
                break
            opened[place] = following
