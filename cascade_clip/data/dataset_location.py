"""Finding the folder to open for a dataset: its own, or a link to one at an address or in another layout.

A link is a folder in the user's cache that holds no images: a `dataset.json`, and a `link.json` with the place of the
records. Whatever takes a prepared dataset's folder takes a link as well.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

import cascade_clip
from cascade_clip.config.dataset_address import is_address
from cascade_clip.config.section import Section
from cascade_clip.data.catalogue import get_split, split_names
from cascade_clip.data.dataset_info import DATASET_FOLDER, INFO_FILE, DatasetInfo, Part, PartInfo, read_dataset_info
from cascade_clip.data.foreign_records import (
    Columns,
    ForeignRecords,
    ForeignStream,
    check_masks,
    choose_splits,
    find_class_names,
    find_columns,
)
from cascade_clip.data.foreign_rows import ForeignRows, RowSource
from cascade_clip.data.hub_address import HubAddress
from cascade_clip.data.mask_values import MaskValues
from cascade_clip.data.records import RecordReader, RemoteShards
from cascade_clip.data.remote_files import RemoteFiles
from cascade_clip.errors import UserError, raise_refusal
from cascade_clip.files import DATA_VARIABLE, cache_folder, data_folder, usable_path, write_files
from cascade_clip.output_folder import record_has

LINK_FILE = "link.json"


class ShardsLink(Section):
    """A prepared dataset at an address, read by byte range."""

    kind: Literal["shards"] = "shards"
    place: str

    def reader(self, info: DatasetInfo) -> RecordReader:
        """What reads its records."""
        return RemoteShards(self.place, info)


class RowsLink(Section):
    """A dataset that the `datasets` library reads, converted record by record."""

    kind: Literal["rows"] = "rows"
    place: str
    stream: bool
    image_column: str
    label_column: str
    splits: dict[Part, str]

    def reader(self, info: DatasetInfo) -> RecordReader:
        """What reads its records."""
        rows = ForeignRows(RowSource.find(self.place, stream=self.stream))
        columns = Columns(self.image_column, self.label_column)
        kind = ForeignStream if self.stream else ForeignRecords
        return kind(rows, self.splits, columns, MaskValues(len(info.classes)))


Link = ShardsLink | RowsLink
_READ_LINK: TypeAdapter[Link] = TypeAdapter(Annotated[Link, Field(discriminator="kind")])


def read_link(folder: Path) -> Link | None:
    """Read where the records of a folder are; None: in the folder itself. Raises UserError for a damaged link."""
    path = folder / LINK_FILE
    if not path.is_file():
        return None
    try:
        return _READ_LINK.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise_refusal(error, str(path))
        raise UserError(f"{path} is damaged: delete {folder} and name the dataset itself.") from error


def write_link(link: Link, info: str) -> Path:
    """Write a link and its `dataset.json` into the user's cache; the folder's name depends on their content alone.

    Raises UserError where the cache is not writable.
    """
    content = link.model_dump_json(indent=1) + "\n"
    name = re.sub(r"[^\w.-]+", "-", link.place).strip("-")[-60:]
    digest = hashlib.sha256(f"{content}{info}".encode()).hexdigest()[:12]
    folder = cache_folder() / "linked" / f"{name}-{digest}"
    try:
        write_files({folder / INFO_FILE: info.encode(), folder / LINK_FILE: content.encode()})
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}): set CASCADE_CLIP_CACHE.") from error
    return folder


_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


def locate_dataset(
    name: str, data: Path | str | None = None, *, stream: bool = False, class_names: Sequence[str] | None = None
) -> Path:
    """Find the folder to open for a dataset by its name, for example "voc": one with a `dataset.json`.

    `data` is the dataset's folder, a folder that holds it under its name, or whatever else `dataset_folder` takes;
    None: `data_folder()` holds it. The other arguments are those of `dataset_folder`. Raises UserError where it is in
    none of these places, which the message lists.
    """
    if data is not None and is_address(data):
        return dataset_folder(data, stream=stream, class_names=class_names)
    home = usable_path(data, "The dataset") if data else data_folder()
    places = [home, home / name] if data else [home / name]
    for place in places:
        if (place / INFO_FILE).is_file():
            return place
    if data and holds_rows(home):
        return dataset_folder(home, stream=stream, class_names=class_names)
    looked = " and ".join(map(str, places))
    made_by_name = {get_split(split).dataset for split in split_names()}
    source = name if name in made_by_name else "folder --source FOLDER"
    elsewhere = f"Give its folder with --data, set {DATA_VARIABLE}, or make" if data is None else "Make"
    raise UserError(
        f'The prepared dataset "{name}" was not found in {looked}. '
        f"{elsewhere} it with `cascade-clip prepare-data {source} --output {places[-1]}`."
    )


def dataset_folder(data: Path | str, *, stream: bool = False, class_names: Sequence[str] | None = None) -> Path:
    """Find the folder to open for a dataset that is given by its place: its own, or a link in the user's cache.

    `data` is a prepared dataset's folder; a folder in `imagefolder` or Parquet form; `hub:ORG/NAME[@REVISION]` in our
    layout or any that `datasets` reads; with `stream`, any other address of a prepared dataset (`https://...`,
    `s3://...`). `stream` reads from the address, keeping nothing on the disk; without it, a dataset of the Hub is
    downloaded into the Hub's cache. `class_names` are those of a dataset that does not name its own, in the order of
    the mask's values. Raises UserError where it is none of these, cannot be reached, or its columns or classes are not
    clear.
    """
    address = HubAddress.parse(str(data))
    if address is not None:
        return _on_the_hub(address, stream, class_names)
    if "://" in str(data):
        return _at_an_address(str(data).rstrip("/"), stream)
    folder = usable_path(data, "The dataset")
    if not (folder / INFO_FILE).is_file() and holds_rows(folder):
        return _link_rows(RowSource.find(folder, stream=stream), class_names)
    return folder


def holds_rows(folder: Path) -> bool:
    """Whether a folder that is no prepared dataset is one in `imagefolder` or Parquet form."""
    patterns = ("*.parquet", "*/*.parquet", *_METADATA, *(f"*/{name}" for name in _METADATA))
    return folder.is_dir() and any(next(folder.glob(pattern), None) for pattern in patterns)


def _on_the_hub(address: HubAddress, stream: bool, class_names: Sequence[str] | None) -> Path:
    pinned = address.pinned()
    file = pinned.file(INFO_FILE)
    if file is None or not record_has(file.read_bytes(), DATASET_FOLDER.keys):
        return _link_rows(RowSource(pinned, stream=stream), class_names)
    if stream:
        return write_link(ShardsLink(place=str(pinned)), file.read_text(encoding="utf-8"))
    shards = [name for part in read_dataset_info(file.parent).parts.values() for name in part.shards]
    return pinned.download([INFO_FILE, "README.md", *shards])


def _at_an_address(address: str, stream: bool) -> Path:
    if not stream:
        raise UserError(f"{address} is not on this machine: add --stream to read it from there, or copy it first.")
    content = RemoteFiles(address).find(INFO_FILE)
    if content is None or not record_has(content, DATASET_FOLDER.keys):
        found = "it has no dataset.json" if content is None else "its dataset.json was not made by Cascade-CLIP"
        raise UserError(f"{address} is no prepared dataset: {found}. Make one with `cascade-clip prepare-data`.")
    return write_link(ShardsLink(place=address), content.decode())


def _link_rows(source: RowSource, class_names: Sequence[str] | None) -> Path:
    """Find out what a foreign dataset holds, and write the link."""
    rows = ForeignRows(source)
    splits = choose_splits(rows.splits, str(source))
    features = rows.features(splits["train"])
    columns = find_columns(features, str(source))
    classes = find_class_names(features, source) or class_names
    if classes is None:
        raise UserError(
            f"{source} does not name its classes: give --split NAME, add a classes.txt with one name a line, or use "
            "`cascade-clip prepare-data hub --classes A,B,...`."
        )
    check_masks(rows, splits["train"], columns, classes)
    link = RowsLink(
        place=str(source), stream=source.stream, image_column=columns.image, label_column=columns.label, splits=splits
    )
    unknown: dict[str, Any] = {"pixels": (), "ignored_pixels": 0, "smallest": None, "largest": None, "shards": {}}
    info = DatasetInfo(
        name=source.name,
        classes=tuple(classes),
        options={"from": str(source), "stream": source.stream},
        sources=(),
        tool=f"cascade-clip {cascade_clip.__version__}",
        parts={part: PartInfo(images=rows.count(split), **unknown) for part, split in splits.items()},
    )
    return write_link(link, info.model_dump_json(indent=1) + "\n")
