"""Records out of the rows of a foreign dataset: which splits, columns and classes they have, and their conversion."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import fsspec  # type: ignore[import-untyped]
import numpy as np
from datasets import ClassLabel, Image
from numpy.typing import NDArray

from cascade_clip.config.class_names import class_names_in
from cascade_clip.data.class_list_file import class_name_problems
from cascade_clip.data.dataset_info import Part
from cascade_clip.data.foreign_rows import ForeignRows, Row, RowSource, SourceLostError
from cascade_clip.data.images import CheckedImage, check_image, decode_label, encode_label, orientation_of
from cascade_clip.data.mask_values import MaskValues, fit_label
from cascade_clip.data.records import Record
from cascade_clip.errors import UserError, closest
from cascade_clip.labels import IGNORED

# Masks that are looked at before all are read.
_ROWS_LOOKED_AT = 8
_FOR_COLOURS = "Save images and masks as files and use `cascade-clip prepare-data folder --colours`."

_VALIDATION_SPLITS = ("validation", "val", "valid", "dev")

_IMAGE_NAMES = ("image", "pixel_values", "img", "picture", "photo", "jpg", "jpeg", "file")
_LABEL_NAMES = (
    *("label", "mask", "annotation", "segmentation", "labels", "masks", "label_map", "segmentation_mask"),
    *("segmentation_map", "semantic_segmentation", "semantic_mask", "semantic", "annotations", "label_image"),
    *("gt", "seg", "seg.png", "mask.png"),
)
CLASS_FILES = ("dataset.json", "id2label.json", "classes.txt")
"""Files of a dataset that may name its classes, in the order in which they are looked for."""


@dataclass(frozen=True)
class Columns:
    """Names of the two columns that are used."""

    image: str
    label: str


def choose_splits(
    found: Sequence[str], source: str, *, train: str = "train", val: str | None = None
) -> dict[Part, str]:
    """Choose which of the splits of a dataset are for training and for validation.

    Without `val` it is a split with one of the usual names, or none. Raises UserError where a named split does not
    exist.
    """
    for given, option in ((train, "--train-split"), (val, "--val-split")):
        if given is not None and given not in found:
            raise UserError(f'{source} has no split "{given}" ({option}); it has {", ".join(found)}.')
    chosen = val or next((name for name in _VALIDATION_SPLITS if name in found and name != train), None)
    return {"train": train, "val": chosen} if chosen else {"train": train}


def find_columns(
    features: Mapping[str, Any], source: str, *, image: str | None = None, label: str | None = None
) -> Columns:
    """Find the columns of images and masks: those that are named, else by type and usual names.

    Takes features by column, as `datasets` gives them. Raises UserError where a named column does not exist or holds no
    images, or several columns could be meant.
    """
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    for given, option in ((image, "--image-column"), (label, "--label-column")):
        if given is not None and given not in images:
            held = f"holds {features[given]}, not images" if given in features else "is not there"
            raise UserError(f'{option} "{given}": this column of {source} {held}.{closest(given, images)}')
    if len(images) < 2:
        raise UserError(
            f"{source} needs a column of images and one of masks; it has {_listed(features)}. "
            "An imagefolder names both files of a pair in its metadata.jsonl: image_file_name and mask_file_name."
        )
    label = label or _the_one([name for name in images if name != image], _LABEL_NAMES)
    image = image or _the_one([name for name in images if name != label], _IMAGE_NAMES)
    if image is not None and label is None:
        label = _the_one([name for name in images if name != image], ())
    if image is None or label is None or image == label:
        raise UserError(
            f"{source} has several columns of images ({', '.join(images)}); say which one holds the image and which "
            "one the mask, with --image-column and --label-column of `cascade-clip prepare-data hub`."
        )
    return Columns(image, label)


def _the_one(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """The only name, or the only one of the usual ones; None where there is a choice."""
    known = [name for name in names if name.lower() in usual]
    found = known or list(names)
    return found[0] if len(found) == 1 else None


def _listed(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items()) or "no column"


def find_class_names(features: Mapping[str, Any], source: RowSource) -> tuple[str, ...] | None:
    """Find the class names that a dataset itself has, in the order of the mask's values; None: it names none.

    Looked at in turn: `dataset.json` (`classes`), `id2label.json` ({"0": "sky", ...}), `classes.txt` (one a line), and
    a column that lists the classes of each image (a list of `ClassLabel`). A single `ClassLabel` an image does not
    count: it classifies the whole image, for example by the kind of scene. Raises UserError where one of the files
    holds something else, or the names are repeated or empty.
    """
    for name in CLASS_FILES:
        content = source.read_file(name)
        if content is None:
            continue
        found = _names_in(name, content, f"{source}: {name}")
        if found is not None:
            return found
    listed = {tuple(inner.names) for feature in features.values() if isinstance(inner := _inner(feature), ClassLabel)}
    return _checked(listed.pop(), f"{source}: its list of ClassLabel") if len(listed) == 1 else None


def _inner(feature: Any) -> Any:
    """What a list feature is a list of."""
    return feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)


def _names_in(name: str, content: bytes, where: str) -> tuple[str, ...] | None:
    try:
        text = content.decode("utf-8-sig")
        if name != "dataset.json":
            return _checked(tuple(class_names_in(text, where, as_json=name.endswith(".json"))), where)
        parsed = json.loads(text)
    except ValueError as error:
        raise UserError(f"{where} cannot be read ({error}). Mend it, or give the names with --classes.") from error
    names = parsed.get("classes") if isinstance(parsed, dict) else None
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        return None
    return _checked(tuple(names), where)


def _checked(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    problems = class_name_problems(names)
    if problems:
        raise UserError(f"{where}: {' '.join(problems)} Mend it, or give the names with --classes.")
    return names


class ConvertedRow(NamedTuple):
    """A row that can be used."""

    image: bytes
    """The image file as it is stored."""
    label: NDArray[np.uint8]
    """(H, W): class index, 255 = ignored."""
    checked: CheckedImage
    mask: bytes
    """The mask file as it is stored."""
    assumed: bool
    """See `FittedLabel`."""


def convert_row(row: Row, columns: Columns, masks: MaskValues, where: str) -> ConvertedRow:
    """Check the image of a row, read its mask, and compare their sizes; messages call the row `where`.

    Raises UserError where image or mask is missing or broken, the mask is in colours or holds a value that is no class,
    or their sizes differ; SourceLostError where they are at an address that cannot be read.
    """
    image = _content(row[columns.image], f'{where} has no image in its column "{columns.image}".')
    mask = _content(row[columns.label], f'{where} has no mask in its column "{columns.label}".')
    checked = check_image(image, f"The image of {where}")
    values = decode_label(mask, f"The mask of {where}", for_colours=_FOR_COLOURS)
    label = masks.to_labels(values, f"The mask of {where}")
    label, assumed = fit_label(label, checked, lambda: orientation_of(mask), f"The mask of {where}", "its image")
    return ConvertedRow(image, label, checked, mask, assumed)


def _content(value: Mapping[str, Any] | None, missing: str) -> bytes:
    """The bytes of an image in the row itself, in a file or at an address."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise UserError(missing)
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    place = str(value["path"])
    try:
        with fsspec.open(place, "rb") as file:
            return bytes(file.read())
    except Exception as error:  # each kind of address has exceptions of its own
        kind = SourceLostError if "://" in place else UserError
        raise kind(f"{place} cannot be read: {error}.") from error


def check_masks(rows: ForeignRows, split: str, columns: Columns, classes: Sequence[str] = ()) -> None:
    """Look at the first masks before all are read.

    Raises the first's UserError if none of them holds indices, and one for masks in black and white of one or two
    `classes`: 0 and 255, which would be read as no class.
    """
    errors: list[UserError] = []
    values: set[int] = set()
    for index in range(min(rows.count(split), _ROWS_LOOKED_AT)):
        where = f'row {index} of split "{split}" of {rows.source}'
        try:
            mask = _content(rows.row(split, index)[columns.label], f"{where} has no mask.")
            values.update(np.unique(decode_label(mask, f"The mask of {where}", for_colours=_FOR_COLOURS)).tolist())
        except SourceLostError:
            raise
        except UserError as error:
            errors.append(error)
        if values and len(classes) not in (1, 2):
            return
    if errors and not values:
        raise errors[0]
    if IGNORED in values and len(values) == 2 and classes:
        raise UserError(
            f"The masks of {rows.source} hold {' and '.join(map(str, sorted(values)))} only, and {IGNORED} means no "
            f"class. Prepare it with `cascade-clip prepare-data hub` and say what the values are: --mask-values "
            f"0,{IGNORED} if {IGNORED} is a class, --ignore {IGNORED} if not."
        )


class ForeignRecords:
    """Records out of rows that `datasets` keeps on the disk; see `RecordReader`."""

    def __init__(self, rows: ForeignRows, splits: Mapping[Part, str], columns: Columns, masks: MaskValues) -> None:
        self.rows = rows
        self.splits = splits
        self.columns = columns
        self.masks = masks

    def read(self, part: Part, index: int) -> Record:
        """Read one record; raises UserError where the row cannot be used."""
        split = self.splits[part]
        return self._record(self.rows.row(split, index), f"{split}-{index:06d}")

    def _record(self, row: Row, name: str) -> Record:
        file = (row[self.columns.image] or {}).get("path")
        shown = f"{name} ({PurePosixPath(file.partition('::')[0]).name})" if file else name
        try:
            converted = convert_row(row, self.columns, self.masks, f"{shown} of {self.rows.source}")
        except SourceLostError:
            raise
        except UserError as error:
            raise UserError(
                f"{error} A dataset that needs options or mending is prepared first: `cascade-clip prepare-data hub`."
            ) from error
        present = [int(value) for value in np.unique(converted.label) if value != IGNORED]
        return Record(shown, converted.image, encode_label(converted.label), present)


class ForeignStream(ForeignRecords):
    """Records out of a stream of rows; see `StreamReader`."""

    def read_shuffled(self, seed: int, epoch: int, place: int) -> Record:
        """Read the training record at a place of an epoch, whose order (seed, epoch) decides."""
        split = self.splits["train"]
        return self._record(self.rows.shuffled(split, seed, epoch, place), f"{split}-epoch{epoch}-{place:06d}")
