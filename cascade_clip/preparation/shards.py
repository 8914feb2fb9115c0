"""One Parquet shard of a prepared dataset, in the Hub's layout (DESIGN section 4.1)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade_clip.data.images import encode_label
from cascade_clip.errors import UserError
from cascade_clip.labels import IGNORED

# Random access reads a whole row group, so it stays small; smaller still would make the footers of large datasets
# heavy.
_ROWS_A_GROUP = 8

_IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_FEATURES = {
    "image": {"_type": "Image"},
    "label": {"_type": "Image"},
    "id": {"dtype": "string", "_type": "Value"},
    "present": {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"},
}
SCHEMA = pa.schema(
    [("image", _IMAGE_TYPE), ("label", _IMAGE_TYPE), ("id", pa.string()), ("present", pa.list_(pa.int32()))],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)
"""Arrow schema of every shard, with the features that `datasets.load_dataset` reads from it."""


@dataclass(frozen=True)
class Sample:
    """One image with its label, still to be loaded."""

    id: str
    """Name within its part, unique there."""
    payload: Any
    """What the loader needs: picklable, small, with a `repr` that says all of it (a resumed run compares it)."""


Loader = Callable[[Sample], tuple[bytes, NDArray[np.uint8]]]
"""Gives the image file's bytes and the label (H, W) uint8: class index, 255 = ignored. Raises UserError, naming the
file, for a sample that may not enter the dataset. Picklable where several processes work."""


@dataclass
class ShardReport:
    """What became of one shard."""

    images: int = 0
    bytes: int = 0
    pixels: list[int] = field(default_factory=lambda: [0] * 256)
    """Pixels of every label value 0..255."""
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    problems: list[str] = field(default_factory=list)
    """Sentences of the samples that were refused; not empty: the shard was not written."""


@dataclass(frozen=True)
class ShardJob:
    """One shard to write: a picklable unit of work."""

    path: Path
    samples: Sequence[Sample]
    load: Loader
    class_count: int

    @property
    def report_path(self) -> Path:
        """Where the report lies once the shard is finished."""
        return self.path.with_suffix(".json")


def write_shard(job: ShardJob) -> ShardReport:
    """Write one shard and its report under temporary names, then put them in place.

    Args:
        job: What to write.

    Returns:
        The report; with problems in it nothing was written.

    Raises:
        OSError: The file system refuses, for example because the disk is full; no half-written file stays.
    """
    report = ShardReport()
    temporary = job.path.with_name(f"{job.path.name}.{os.getpid()}.tmp")
    try:
        with pq.ParquetWriter(
            temporary,
            SCHEMA,
            compression="none",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        ) as writer:
            for rows in _row_groups(job, report):
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        if not report.problems:
            report.bytes = temporary.stat().st_size
            temporary.replace(job.path)
            write_text_atomically(job.report_path, json.dumps(asdict(report)))
    finally:
        temporary.unlink(missing_ok=True)
    return report


def finished_report(job: ShardJob) -> ShardReport | None:
    """Read the report of a shard that an earlier run finished; None where it has to be written."""
    try:
        report = ShardReport(**json.loads(job.report_path.read_text(encoding="utf-8")))
        return report if job.path.stat().st_size == report.bytes else None
    except (OSError, ValueError, TypeError):
        return None


def write_text_atomically(path: Path, text: str) -> None:
    """Write a small file under a temporary name, then put it in place."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _row_groups(job: ShardJob, report: ShardReport) -> Iterator[list[dict[str, object]]]:
    """Load the samples group by group; after a refused one the rest is only checked."""
    rows: list[dict[str, object]] = []
    for sample in job.samples:
        try:
            image, label = job.load(sample)
            present = _present(sample, label, job.class_count)
        except UserError as error:
            report.problems.append(str(error))
            continue
        _count(report, label)
        rows.append(
            {
                "image": {"bytes": image, "path": None},
                "label": {"bytes": encode_label(label), "path": None},
                "id": sample.id,
                "present": present,
            }
        )
        if len(rows) == _ROWS_A_GROUP:
            yield rows
            rows = []
    if rows:
        yield rows


def _present(sample: Sample, label: NDArray[np.uint8], class_count: int) -> list[int]:
    values = [int(value) for value in np.flatnonzero(np.bincount(label.ravel(), minlength=256)[:IGNORED])]
    if values and values[-1] >= class_count:
        outside = [value for value in values if value >= class_count]
        raise UserError(
            f"The label of {sample.id} holds the index {', '.join(map(str, outside))}, "
            f"but there are {class_count} classes (0 to {class_count - 1}; 255 = ignored)."
        )
    return values


def _count(report: ShardReport, label: NDArray[np.uint8]) -> None:
    height, width = label.shape
    counts = np.bincount(label.ravel(), minlength=256)
    report.images += 1
    report.pixels = [before + int(new) for before, new in zip(report.pixels, counts, strict=True)]
    report.smallest = smaller(report.smallest, (height, width))
    report.largest = larger(report.largest, (height, width))


def _area_first(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] * size[1], size[0]


def smaller(first: tuple[int, int] | None, second: tuple[int, int] | None) -> tuple[int, int] | None:
    """The size (height, width) of the smaller area; None counts as absent."""
    return min((tuple_of(size) for size in (first, second) if size), key=_area_first, default=None)


def larger(first: tuple[int, int] | None, second: tuple[int, int] | None) -> tuple[int, int] | None:
    """The size (height, width) of the larger area; None counts as absent."""
    return max((tuple_of(size) for size in (first, second) if size), key=_area_first, default=None)


def tuple_of(size: Sequence[int]) -> tuple[int, int]:
    """A size as a tuple again, after it went through JSON."""
    return size[0], size[1]
