"""Writing a prepared dataset: in parallel, resumable, the same bytes for the same input.

See cascade_clip/README.md, section 4.1.
"""

import errno
import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TypedDict

import cascade_clip
from cascade_clip.data.class_list_file import class_name_problems
from cascade_clip.data.dataset_info import (
    DATASET_FOLDER,
    FORMAT_VERSION,
    INFO_FILE,
    DatasetInfo,
    Part,
    PartInfo,
    ShardInfo,
    SourceFile,
)
from cascade_clip.errors import UserError, counted
from cascade_clip.files import json_text, write_files
from cascade_clip.labels import IGNORED
from cascade_clip.output_folder import check_output_folder, only_writer, put_in_place
from cascade_clip.preparation.problems import refuse, warnings_about
from cascade_clip.preparation.shards import ImageSource, Loader, ShardJob, ShardReport, by_area, write_shards
from cascade_clip.progress import Progress

Options = Mapping[str, str | int | float | bool | list[str] | None]
"""How a dataset is made, as `dataset.json` records it."""


class WriteOptions(TypedDict, total=False):
    """What every function that prepares a dataset passes on to `write_prepared`, where it is explained."""

    workers: int
    overwrite: bool
    progress: Progress | None
    picture: Callable[[Path], object] | None


_FINGERPRINT_FILE = "preparing.json"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EFBIG, errno.ENAMETOOLONG}

log = logging.getLogger(__name__)


def write_prepared(
    output: Path,
    *,
    name: str,
    classes: Sequence[str],
    parts: Mapping[Part, Sequence[ImageSource]],
    load: Loader,
    colours: Sequence[tuple[int, int, int]] | None = None,
    options: Options | None = None,
    sources: Sequence[SourceFile] = (),
    inputs: Sequence[Path] = (),
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
    review: Callable[[DatasetInfo], None] | None = None,
    picture: Callable[[Path], object] | None = None,
) -> DatasetInfo:
    """Write a prepared dataset from any source.

    Everything is written into a hidden folder beside `output` and moved there when complete. A run that was killed
    continues when it is started again with the same input. The bytes do not depend on `workers`.

        write_prepared(Path("out"), name="scenes", classes=["sky", "star"], load=draw, workers=2,
                       parts={"train": [ImageSource(f"{seed:05d}", seed) for seed in range(2000)], "val": [...]})

    Args:
        output: Folder of the dataset; empty or new, unless `overwrite`.
        name: Name of the dataset.
        classes: Class names in label order, 1 to 255.
        parts: Images of "train" and "val" in order; ids are unique within a part.
        load: Gives the bytes (any format that Pillow reads) and the label of an image; pickled for several workers.
        colours: RGB of each class, where the source has its own.
        options: How the dataset is made; recorded, and part of what a resumed run compares.
        sources: Archives and lists the dataset is made from.
        inputs: Files and folders that are read; `output` must not be or contain one.
        workers: Processes that load and write; 1 works in this process.
        overwrite: Replace a prepared dataset in `output` (files of the user's beside it are kept), and start over an
            unfinished run of other input.
        progress: Called after each shard with (images done, images in all, file).
        review: Called with the content of `dataset.json` before the folder is moved into place; may raise UserError.
        picture: Called with the folder before it is moved into place, to draw into it.

    Raises:
        UserError: `output` is taken, or another process prepares it; class names or ids are repeated; images, or the
            whole, are refused (nothing is written); the disk is full (finished shards stay for a second start).
    """
    classes = tuple(classes)
    _check_names(classes, parts)
    place = output.resolve()
    working = place.with_name(f".{place.name}.preparing")
    done, whole = 0, sum(map(len, parts.values()))
    fingerprint = _fingerprint(parts, name, classes, colours, sorted((options or {}).items()), sources)
    try:
        with only_writer(place):
            check_output_folder(output, DATASET_FOLDER, inputs=inputs, overwrite=overwrite)
            _open_working_folder(working, fingerprint, output, overwrite)
            jobs = {part: _plan(working, part, images, load, len(classes)) for part, images in parts.items()}
            reports: dict[Path, ShardReport] = {}
            for job, report in write_shards([job for of_part in jobs.values() for job in of_part], workers):
                reports[job.path] = report
                done += len(job.images)
                if progress:
                    progress(done, whole, job.path.name)
            info = DatasetInfo(
                name=name,
                classes=classes,
                colours=tuple(colours) if colours else None,
                options=dict(options or {}),
                sources=tuple(sources),
                tool=f"cascade-clip {cascade_clip.__version__}",
                parts={part: _part_info(of_part, reports, len(classes), working) for part, of_part in jobs.items()},
                content_sha256=_content_hash(jobs, reports),
            )
            try:
                refuse(sorted(problem for report in reports.values() for problem in report.problems), images=whole)
                if review is not None:
                    review(info)
            except UserError:
                shutil.rmtree(working)
                raise
            _finish(working, place, info, picture)
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise UserError(
                f"The disk is full: {output} could not be completed. Free some space and repeat the command to "
                f"continue, or delete {working}, which holds the finished part."
            ) from error
        if error.errno in _NOT_WRITABLE:
            raise UserError(f"{output} could not be written: {error.strerror}.") from error
        raise
    for warning in warnings_about(remark for report in reports.values() for remark in report.remarks):
        log.warning(warning)
    return info


def _check_names(classes: Sequence[str], parts: Mapping[Part, Sequence[ImageSource]]) -> None:
    problems = class_name_problems(classes)
    for part, images in parts.items():
        repeated = [image_id for image_id, count in Counter(image.id for image in images).items() if count > 1]
        problems += [f'{part}: the id "{image_id}" is used more than once.' for image_id in repeated[:1]]
    if not any(parts.values()):
        problems.append("There is no image to prepare.")
    if problems:
        raise UserError("\n".join(problems))


def _fingerprint(parts: Mapping[Part, Sequence[ImageSource]], *described: object) -> str:
    """Digest of everything that decides the bytes of the dataset."""
    digest = hashlib.sha256(repr((FORMAT_VERSION, cascade_clip.__version__, described)).encode())
    for part, images in parts.items():
        digest.update(part.encode())
        for image in images:
            digest.update(repr(image).encode())
    return digest.hexdigest()


def _open_working_folder(working: Path, fingerprint: str, output: Path, overwrite: bool) -> None:
    """Make the hidden folder, or keep the one that an interrupted run of the same input left."""
    marker = working / _FINGERPRINT_FILE
    if working.is_dir():
        if marker.is_file() and json.loads(marker.read_text(encoding="utf-8")) == fingerprint:
            return
        if marker.is_file() and not overwrite:
            raise UserError(
                f"An unfinished preparation of {output} was made from other files or options. "
                f"Repeat its command to finish it, or give --overwrite to start over."
            )
        shutil.rmtree(working)
    (working / "data").mkdir(parents=True)
    write_files({marker: json_text(fingerprint, indent=None).encode()})


def _plan(working: Path, part: Part, images: Sequence[ImageSource], load: Loader, class_count: int) -> list[ShardJob]:
    """Cut a part into shards, whose size depends on the number of images alone, never on the number of workers."""
    size = min(max(ceil(len(images) / 16), 32), 512)
    count = ceil(len(images) / size)
    return [
        ShardJob(
            working / "data" / f"{part}-{index:05d}-of-{count:05d}.parquet",
            images[index * size : (index + 1) * size],
            load,
            class_count,
        )
        for index in range(count)
    ]


def _content_hash(jobs: Mapping[Part, Sequence[ShardJob]], reports: Mapping[Path, ShardReport]) -> str:
    hashes = ((part, [reports[job.path].content_sha256 for job in of_part]) for part, of_part in sorted(jobs.items()))
    return hashlib.sha256(repr([*hashes]).encode()).hexdigest()


def _part_info(
    jobs: Sequence[ShardJob], reports: Mapping[Path, ShardReport], class_count: int, working: Path
) -> PartInfo:
    done = [reports[job.path] for job in jobs]
    totals = [sum(report.pixels[value] for report in done) for value in range(256)]
    return PartInfo(
        images=sum(report.images for report in done),
        pixels=tuple(totals[:class_count]),
        ignored_pixels=totals[IGNORED],
        smallest=min((report.smallest for report in done if report.smallest), key=by_area, default=None),
        largest=max((report.largest for report in done if report.largest), key=by_area, default=None),
        shards={
            job.path.relative_to(working).as_posix(): ShardInfo(images=report.images, bytes=report.bytes)
            for job, report in zip(jobs, done, strict=True)
        },
    )


def _finish(working: Path, place: Path, info: DatasetInfo, picture: Callable[[Path], object] | None) -> None:
    """Write the card and `dataset.json`, draw, drop what only resuming needed, and move the folder into place."""
    info_text = info.model_dump_json(indent=1) + "\n"
    write_files({working / "README.md": _card(info).encode(), working / INFO_FILE: info_text.encode()})
    if picture is not None:
        picture(working)
    only_for_resuming = [*working.glob("data/*.json"), *working.glob("data/*.tmp"), *working.rglob(".*.part")]
    for left in [*only_for_resuming, working / _FINGERPRINT_FILE]:
        left.unlink()
    put_in_place(working, place, DATASET_FOLDER)


def _card(info: DatasetInfo) -> str:
    """Dataset card whose head tells `datasets.load_dataset` which files make up which split."""
    filled = [part for part, content in info.parts.items() if content.images]
    files = "".join(f"  - split: {part}\n    path: data/{part}-*.parquet\n" for part in filled)
    counts = ", ".join(f"{counted(content.images, 'image')} in {part}" for part, content in info.parts.items())
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}task_categories:\n- image-segmentation\n---\n\n"
        f"# {info.name}\n\nSemantic segmentation, {counted(len(info.classes), 'class')}; {counts}. "
        f"Prepared by {info.tool}.\n\n"
        "`label` holds the class index of each pixel, 255 = ignored; the class names stand in `dataset.json`.\n"
    )
