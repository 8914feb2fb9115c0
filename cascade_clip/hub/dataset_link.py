"""Datasets that lie elsewhere or in another layout, opened through a folder that holds no images: a link.

A link is a folder in the user's cache with a `dataset.json` and a `link.json` that says where the records are. Whatever
wants a dataset's folder takes a link as well.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

import cascade_clip
from cascade_clip.config.section import Section
from cascade_clip.data.dataset_info import INFO_FILE, DatasetInfo, Part, PartInfo, read_dataset_info
from cascade_clip.data.records import RecordReader
from cascade_clip.errors import UserError
from cascade_clip.files import cache_folder, write_files
from cascade_clip.hub.hub_address import HubAddress
from cascade_clip.hub.range_files import RangeFiles
from cascade_clip.hub.row_columns import Columns, find_class_names, find_columns
from cascade_clip.hub.row_source import RowSource
from cascade_clip.hub.rows import Rows

LINK_FILE = "link.json"
_VALIDATION_SPLITS = ("validation", "val", "valid", "dev")
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


class ShardsLink(Section):
    """A prepared dataset at an address, read by byte range."""

    kind: Literal["shards"] = "shards"
    place: str

    def reader(self, info: DatasetInfo) -> RecordReader:
        """What reads its records."""
        from cascade_clip.hub.remote_shards import RemoteShards

        return RemoteShards(RangeFiles(self.place), info)


class RowsLink(Section):
    """A dataset that `datasets` reads, converted record by record."""

    kind: Literal["rows"] = "rows"
    place: str
    stream: bool
    image_column: str
    label_column: str
    splits: dict[Part, str]

    def reader(self, info: DatasetInfo) -> RecordReader:
        """What reads its records."""
        from cascade_clip.hub.foreign import ForeignRecords, ForeignStream
        from cascade_clip.hub.row_loader import RowLoader
        from cascade_clip.preparation.masks import IndexMasks

        rows = Rows(RowSource.find(self.place, stream=self.stream))
        loader = RowLoader(Columns(self.image_column, self.label_column), IndexMasks(len(info.classes)))
        return (ForeignStream if self.stream else ForeignRecords)(rows, self.splits, loader)


Link = ShardsLink | RowsLink
_READ_LINK: TypeAdapter[Link] = TypeAdapter(Annotated[Link, Field(discriminator="kind")])


def read_link(folder: Path) -> Link | None:
    """Where the records of a folder are; None where they lie in the folder itself.

    Raises:
        UserError: The link is damaged.
    """
    path = folder / LINK_FILE
    if not path.is_file():
        return None
    try:
        return _READ_LINK.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path} is damaged: delete {folder} and name the dataset itself.") from error


def dataset_folder(data: Path | str, *, stream: bool = False, class_names: Sequence[str] | None = None) -> Path:
    """Find the folder through which a dataset is opened, whatever it is and wherever it lies.

    Args:
        data: A prepared dataset's folder; a folder in `imagefolder` or Parquet form; `hub:ORG/NAME[@REVISION]` in our
            layout or any that `datasets` reads; with `stream`, any other address of a prepared dataset
            (`https://...`, `s3://...`).
        stream: Read from where it lies, keeping nothing on the disk; without it, a dataset of the Hub is downloaded
            into the Hub's cache.
        class_names: Classes in the order of the mask's values, for a dataset that does not name its own.

    Returns:
        A folder for `PreparedDataset.open`: the dataset's own, or a link in the user's cache.

    Raises:
        UserError: It is nothing of all this, cannot be reached, or does not say its columns or classes.
    """
    address = HubAddress.parse(str(data))
    if address is not None:
        return _on_the_hub(address, stream, class_names)
    if "://" in str(data):
        return _at_an_address(str(data).rstrip("/"), stream)
    folder = Path(data).expanduser()
    if not (folder / INFO_FILE).is_file() and holds_rows(folder):
        return _link_rows(RowSource(folder.resolve(), stream=stream), class_names)
    return folder


def holds_rows(folder: Path) -> bool:
    """Whether a folder that is no prepared dataset is one in `imagefolder` or Parquet form."""
    patterns = ("*.parquet", "*/*.parquet", *_METADATA, *(f"*/{name}" for name in _METADATA))
    return folder.is_dir() and any(next(folder.glob(pattern), None) for pattern in patterns)


def _on_the_hub(address: HubAddress, stream: bool, class_names: Sequence[str] | None) -> Path:
    pinned = address.pinned()
    file = pinned.file(INFO_FILE)
    content = file.read_bytes() if file else b""
    if file is None or not _is_ours(content):
        return _link_rows(RowSource(pinned, stream=stream), class_names)
    if stream:
        return _write_link(ShardsLink(place=str(pinned)), content.decode())
    shards = [name for part in read_dataset_info(file.parent).parts.values() for name in part.shards]
    return pinned.download([INFO_FILE, "README.md", *shards])


def _at_an_address(address: str, stream: bool) -> Path:
    if not stream:
        raise UserError(f"{address} is not on this machine: add --stream to read it from there, or copy it first.")
    content = RangeFiles(address).find(INFO_FILE)
    if content is None or not _is_ours(content):
        found = "it has no dataset.json" if content is None else "its dataset.json is none of ours"
        raise UserError(f"{address} is no prepared dataset: {found}. Make one with `cascade-clip prepare-data`.")
    return _write_link(ShardsLink(place=address), content.decode())


def _is_ours(content: bytes) -> bool:
    try:
        found = json.loads(content)
    except ValueError:
        return False
    return isinstance(found, dict) and {"format", "classes", "parts"} <= found.keys()


def _link_rows(source: RowSource, class_names: Sequence[str] | None) -> Path:
    """Find out what a foreign dataset holds, and write the link."""
    rows = Rows(source)
    splits = choose_splits(rows.splits, str(source))
    features = rows.features(splits["train"])
    columns = find_columns(features, str(source))
    classes = find_class_names(features, source.read_file, str(source)) or class_names
    if classes is None:
        raise UserError(
            f"{source} does not name its classes: give --split NAME, add a classes.txt with one name a line, or use "
            "`cascade-clip prepare-data hub --classes A,B,...`."
        )
    link = RowsLink(
        place=str(source), stream=source.stream, image_column=columns.image, label_column=columns.label, splits=splits
    )
    info = DatasetInfo(
        name=source.name,
        classes=tuple(classes),
        options={"from": str(source), "stream": source.stream},
        sources=(),
        tool=f"cascade-clip {cascade_clip.__version__}",
        parts={
            part: PartInfo(
                images=rows.count(split), pixels=(), ignored_pixels=0, smallest=None, largest=None, shards={}
            )
            for part, split in splits.items()
        },
    )
    return _write_link(link, info.model_dump_json(indent=1) + "\n")


def choose_splits(
    found: Sequence[str], source: str, *, train: str = "train", val: str | None = None
) -> dict[Part, str]:
    """Choose which splits of a dataset are for training and for validation.

    Args:
        found: Names of its splits.
        source: The dataset, for messages.
        train: Name of the training split.
        val: Name of the validation split; unset: the usual names, and none where there is no such split.

    Raises:
        UserError: A named split is not there.
    """
    for given, option in ((train, "--train-split"), (val, "--val-split")):
        if given is not None and given not in found:
            raise UserError(f'{source} has no split "{given}" ({option}); it has {", ".join(found)}.')
    chosen = val or next((name for name in _VALIDATION_SPLITS if name in found and name != train), None)
    splits: dict[Part, str] = {"train": train}
    if chosen:
        splits["val"] = chosen
    return splits


def _write_link(link: Link, info: str) -> Path:
    content = link.model_dump_json(indent=1) + "\n"
    name = re.sub(r"[^\w.-]+", "-", link.place).strip("-")[-60:]
    digest = hashlib.sha256(f"{content}{info}".encode()).hexdigest()[:12]
    folder = cache_folder() / "linked" / f"{name}-{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_files({folder / INFO_FILE: info.encode()})
        write_files({folder / LINK_FILE: content.encode()})
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): set CASCADE_CLIP_CACHE.") from error
    return folder
