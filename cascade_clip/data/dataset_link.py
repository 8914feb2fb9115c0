"""Links: folders that stand for a dataset at an address or in another layout.

A link is a folder in the user's cache that holds no images: a `dataset.json`, and a `link.json` with the place of the
records. Whatever takes a prepared dataset's folder takes a link as well.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from cascade_clip.config.section import Section
from cascade_clip.data.dataset_info import INFO_FILE, DatasetInfo, Part
from cascade_clip.data.foreign_records import Columns, ForeignRecords, ForeignStream
from cascade_clip.data.foreign_rows import ForeignRows, RowSource
from cascade_clip.data.mask_values import MaskValues
from cascade_clip.data.records import RecordReader, RemoteShards
from cascade_clip.errors import UserError, raise_refusal
from cascade_clip.files import cache_folder, write_files

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
