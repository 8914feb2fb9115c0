"""The Parquet shards of a prepared dataset, in the Hub's layout (cascade_clip/README.md, section 4.1)."""

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade_clip.data.images import encode_label
from cascade_clip.errors import UserError, counted
from cascade_clip.files import json_text, write_files
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.problems import Problem, Remark, first_of_each

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
class ImageSource:
    """Where one image and its label come from; they are still to be loaded."""

    id: str
    """Name within its part, unique there."""
    payload: Any
    """What the loader needs: picklable and small; a resumed run compares its `repr`."""


class Loaded(NamedTuple):
    """One image with its label."""

    image: bytes
    """The image file."""
    label: NDArray[np.uint8]
    """(H, W): class index, 255 = ignored."""
    remarks: Sequence[Remark] = ()
    """What is odd about them."""


Loader = Callable[[ImageSource], Loaded | tuple[bytes, NDArray[np.uint8]]]
"""Loads an image and its label. Raises UserError, naming the file, for an image that must not
enter the dataset. Picklable where several processes work."""


@dataclass
class ShardReport:
    """What is in one shard; kept beside it until the dataset is complete."""

    images: int = 0
    bytes: int = 0
    pixels: list[int] = field(default_factory=lambda: [0] * 256)
    """Pixels of every label value 0..255."""
    smallest: tuple[int, int] | None = None
    """Size (height, width) of the image of the smallest area; None: no image."""
    largest: tuple[int, int] | None = None
    problems: list[Problem] = field(default_factory=list)
    """One for each image that was refused; if there is any, the shard was not written."""
    remarks: list[Remark] = field(default_factory=list)
    content_sha256: str = ""
    """Hash of the ids, image files and labels in order."""

    def add(self, size: tuple[int, int], pixels: NDArray[np.int64]) -> None:
        """Count an image of this size (height, width) with so many pixels (256,) of every label value."""
        self.images += 1
        self.pixels = (np.array(self.pixels) + pixels).tolist()
        self.smallest = min(self.smallest or size, size, key=by_area)
        self.largest = max(self.largest or size, size, key=by_area)


@dataclass(frozen=True)
class ShardJob:
    """One shard to write."""

    path: Path
    images: Sequence[ImageSource]
    load: Loader
    class_count: int

    @property
    def report_path(self) -> Path:
        """File of the report, written after the shard."""
        return self.path.with_suffix(".json")


def write_shards(jobs: Sequence[ShardJob], workers: int) -> Iterator[tuple[ShardJob, ShardReport]]:
    """Write the shards that no earlier run finished, in so many processes (1: in this one), and give each with its
    report.

    Finished ones come first, the others as they get done. Raises OSError where the file system refuses; shards that
    other processes have begun are completed first.
    """
    reports = {job.path: _finished_report(job) for job in jobs}
    yield from ((job, report) for job in jobs if (report := reports[job.path]))
    waiting = [job for job in jobs if not reports[job.path]]
    if workers <= 1 or len(waiting) <= 1:
        yield from ((job, write_shard(job)) for job in waiting)
        return
    # Processes are spawned, not forked: a fork copies the locks of whatever threads the caller's libraries run.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(waiting)), mp_context=context, initializer=_live_with_parent) as pool:
        try:
            futures = {pool.submit(write_shard, job): job for job in waiting}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _live_with_parent() -> None:
    """Leave interrupts to the parent process, and end with it even when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def write_shard(job: ShardJob) -> ShardReport:
    """Write one shard and its report under temporary names, then put them in place, unless there are problems.

    Raises:
        OSError: The file system refuses, for example because the disk is full; no half-written file stays.
    """
    report = ShardReport()
    temporary = job.path.with_name(f"{job.path.name}.{os.getpid()}.tmp")
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    try:
        with pq.ParquetWriter(temporary, SCHEMA, **options) as writer:
            for rows in _row_groups(job, report):
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        if not report.problems:
            report.bytes = temporary.stat().st_size
            report.remarks = first_of_each(report.remarks)
            temporary.replace(job.path)
            write_files({job.report_path: json_text(asdict(report), indent=None).encode()})
    finally:
        temporary.unlink(missing_ok=True)
    return report


def _finished_report(job: ShardJob) -> ShardReport | None:
    """Read the report of a shard that an earlier run finished; None where it has to be written."""
    try:
        content = json.loads(job.report_path.read_text(encoding="utf-8"))
        sizes = {key: tuple(content[key]) for key in ("smallest", "largest")}
        report = ShardReport(**content | sizes | {"remarks": [Remark(*one) for one in content["remarks"]]})
        return report if content["content_sha256"] and job.path.stat().st_size == report.bytes else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _row_groups(job: ShardJob, report: ShardReport) -> Iterator[list[dict[str, object]]]:
    """Load the images group by group; those that are refused are added to the report's problems."""
    rows: list[dict[str, object]] = []
    digest = hashlib.sha256()
    for image in job.images:
        try:
            content, label, remarks = Loaded(*job.load(image))
            pixels = np.bincount(label.ravel(), minlength=256)
            present = np.flatnonzero(pixels[:IGNORED]).tolist()
            _check_indices(image, present, job.class_count)
        except UserError as error:
            files = (getattr(image.payload, name, None) for name in ("image", "mask"))
            names = [f'"{image.id}"', *(str(file) for file in files if file is not None)]
            report.problems.append(Problem.of_image(error, image.id, names))
            continue
        report.add((label.shape[0], label.shape[1]), pixels)
        report.remarks += remarks
        for hashed in (image.id.encode(), content, label.tobytes()):
            digest.update(hashlib.sha256(hashed).digest())
        images = {"image": {"bytes": content, "path": None}, "label": {"bytes": encode_label(label), "path": None}}
        rows.append({**images, "id": image.id, "present": present})
        if len(rows) == _ROWS_A_GROUP:
            yield rows
            rows = []
    report.content_sha256 = digest.hexdigest()
    if rows:
        yield rows


def _check_indices(image: ImageSource, present: Sequence[int], class_count: int) -> None:
    outside = [value for value in present if value >= class_count]
    if outside:
        raise UserError(
            f'The label of "{image.id}" holds the index {", ".join(map(str, outside))}, '
            f"which is none of {counted(class_count, 'class')} (0 to {class_count - 1}; 255 = ignored)."
        )


def by_area(size: tuple[int, int]) -> tuple[int, int]:
    """Key by which sizes (height, width) are compared: area, then height."""
    return size[0] * size[1], size[0]
