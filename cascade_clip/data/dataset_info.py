"""The file `dataset.json` of a prepared dataset (cascade_clip/README.md, section 4.1)."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from cascade_clip.config.mistakes import explain_mistakes
from cascade_clip.config.section import Section
from cascade_clip.errors import UserError
from cascade_clip.output_folder import FolderKind

FORMAT_VERSION = 1
"""Raised when older readers could misread a new folder."""

INFO_FILE = "dataset.json"
CONTACT_SHEET = "contact-sheet.jpg"
"""Picture of some images with their masks, which `prepare-data` draws."""
DATASET_FOLDER = FolderKind(
    "prepared dataset",
    record=INFO_FILE,
    keys=frozenset({"format", "classes", "parts", "tool"}),
    files=(INFO_FILE, "README.md", CONTACT_SHEET, "data/train-*-of-*.parquet", "data/val-*-of-*.parquet"),
)

Part = Literal["train", "val"]
"""The two parts of a dataset."""


class SourceFile(Section):
    """An archive or list file that a dataset was made from."""

    name: str
    bytes: int
    sha256: str


class ShardInfo(Section):
    """One Parquet file."""

    images: int
    bytes: int


class PartInfo(Section):
    """What is in one part; sizes are (height, width)."""

    images: int
    pixels: tuple[int, ...]
    """Labelled pixels of each class, in label order."""
    ignored_pixels: int
    smallest: tuple[int, int] | None
    largest: tuple[int, int] | None
    shards: dict[str, ShardInfo]
    """By path inside the folder, in order."""


class DatasetInfo(Section):
    """Content of `dataset.json`, written last."""

    format: Annotated[int, Field(ge=1)] = FORMAT_VERSION
    name: str
    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...] | None = None
    ignore: Literal[255] = 255
    options: dict[str, str | int | float | bool | list[str] | None]
    """How the dataset was made, for the reader's information."""
    sources: tuple[SourceFile, ...]
    tool: str
    """The program and its version."""
    parts: dict[Part, PartInfo]
    content_sha256: str | None = None
    """Hash of all ids, image files and labels in order; None: an earlier version wrote the dataset."""

    @property
    def images(self) -> int:
        """Images of both parts."""
        return sum(part.images for part in self.parts.values())


def read_dataset_info(folder: Path) -> DatasetInfo:
    """Read `dataset.json` of a prepared dataset; raises UserError where it is missing, damaged or too new."""
    path = folder / INFO_FILE
    if not path.is_file():
        found = "is no prepared dataset: it has no dataset.json"
        if not folder.is_dir():
            found = "is a file" if folder.exists() else "is not there"
        raise UserError(f"The dataset folder {folder} {found}. Make one with `cascade-clip prepare-data`.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}). Prepare the dataset again.") from error
    version = content.get("format") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(
            f"{path} has format {version}, this version of Cascade-CLIP reads up to {FORMAT_VERSION}. "
            "Update Cascade-CLIP or prepare the dataset again."
        )
    try:
        return DatasetInfo.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        source = f"{path}, which is damaged: prepare the dataset again"
        raise UserError(explain_mistakes(error, source, DatasetInfo)) from error
