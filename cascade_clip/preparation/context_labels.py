"""Labels of PASCAL Context in their three encodings: MATLAB files, `trainval_merged.json` (COCO RLE), and PNG masks.

MATLAB and RLE carry the ids of the full annotation of 459 classes. Converted PNG masks number the 59 classes, in one of
two orders and from 0 or 1 (`Reading`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.dataset_info import Part
from cascade_clip.data.mask_values import value_table
from cascade_clip.errors import UserError, counted
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.context_classes import CONTEXT_IDS, LAST_ID, Reading
from cascade_clip.preparation.masks import import_extra, read_mat
from cascade_clip.preparation.paired_files import NumberedMasks
from cascade_clip.preparation.source_tree import Entry

Counts = str | tuple[int, ...]
"""Run lengths of one annotation: COCO's compressed string, or the plain numbers."""

RUN_LENGTHS = "pycocotools.mask"
"""Module that decodes them, see `import_extra`."""


def converted_masks(reading: Reading, background: bool) -> NumberedMasks:
    """The reader of PNG masks of the 59 classes; with `background`, 255 is ignored only where 0 means no class."""
    label_of = {name: label for label, name in enumerate(get_split("context").class_names, int(background))}
    first = reading.first_index
    table = value_table({value: label_of[name] for value, name in enumerate(reading.names, first)})
    table[0 if first else IGNORED] = 0 if background else IGNORED
    last = first + len(CONTEXT_IDS) - 1
    return NumberedMasks(table, f"these masks number the 59 classes from {first} to {last}, and 255 is ignored.")


def behind_background(read: Callable[[Any], NDArray[np.uint8]], mask: Any) -> NDArray[np.uint8]:
    """Read a label of the 59 classes behind a background of all pixels that `read` ignores: 0, and 1..59."""
    labels = read(mask)
    return np.where(labels == IGNORED, 0, labels + 1).astype(np.uint8)


def read_mat_label(mask: Entry) -> NDArray[np.uint8]:
    """Read a MATLAB file of the full annotation; a `ReadMask`, which raises UserError also where SciPy is missing."""
    ids = read_mat(mask, "PASCAL Context", lambda content: content["LabelMap"], largest=LAST_ID)
    labels: NDArray[np.uint8] = _labels_of_full_ids()[ids]
    return labels


@cache
def _labels_of_full_ids() -> NDArray[np.uint8]:
    table = np.full(LAST_ID + 1, IGNORED, np.uint8)
    for label, name in enumerate(get_split("context").class_names):
        table[CONTEXT_IDS[name]] = label
    return table


@dataclass(frozen=True)
class RleLabel:
    """The annotations of one image in `trainval_merged.json`."""

    where: str
    """The file and the image, for messages."""
    height: int
    width: int
    segments: tuple[tuple[int, Counts], ...]
    """Id and run lengths of each annotation, in the file's order."""

    def __str__(self) -> str:
        return self.where


def paint_rle_label(label: RleLabel) -> NDArray[np.uint8]:
    """Paint the annotations of an image, the last one on top (as CAT-Seg does): (H, W) uint8 class, 255 = ignored.

    Raises UserError where pycocotools is missing, or run lengths are damaged.
    """
    labels = np.full((label.height, label.width), IGNORED, np.uint8)
    coco = import_extra(RUN_LENGTHS, "The run lengths of PASCAL Context")
    for number, (category, counts) in enumerate(label.segments):
        stored = {"size": [label.height, label.width], "counts": counts}
        try:
            encoded = stored if isinstance(counts, str) else coco.frPyObjects(stored, label.height, label.width)
            region = coco.decode(encoded)
            # Where runs are missing, pixels hold whatever the memory held: encoded again they are not the same runs.
            again = coco.encode(region)["counts"]
            if again != (counts.encode() if isinstance(counts, str) else encoded["counts"]):
                raise ValueError(f"its runs do not make up {label.width} x {label.height} pixels")
        except (OverflowError, ValueError) as error:
            raise UserError(
                f"{label}: annotation {number} of category {category} is damaged ({error}). Fetch the file again."
            ) from error
        labels[region == 1] = _labels_of_full_ids()[category]
    return labels


class _Image(BaseModel):
    image_id: int
    file_name: Annotated[str, Field(min_length=1)]
    height: Annotated[int, Field(gt=0)]
    width: Annotated[int, Field(gt=0)]
    phase: Part


class _RunLengths(BaseModel):
    size: tuple[int, int]
    counts: Counts


class _Annotation(BaseModel):
    image_id: int
    category_id: Annotated[int, Field(ge=0, le=LAST_ID)]
    segmentation: _RunLengths


class _File(BaseModel):
    images: tuple[_Image, ...]
    annos_segmentation: tuple[_Annotation, ...]


def read_annotations(file: Entry) -> dict[Part, dict[str, RleLabel]]:
    """Read `trainval_merged.json` as a whole.

    Returns:
        By part (the image's `phase`) and image (file name without ending, sorted), its annotations. An image without
        any is ignored everywhere.

    Raises:
        UserError: The file is no JSON, or cut off; keys are missing or have other values than they may; an annotation
            has another size than its image; or images have no annotation while there are annotations of images that are
            not listed (without the former, the latter are passed over).
    """
    try:
        content = _File.model_validate_json(file.read())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in first["loc"]).removeprefix(".")
        raise UserError(
            f"{file} is no annotation of PASCAL Context as published ({place}{': ' if place else ''}{first['msg']}). "
            "Is it cut off? Fetch trainval_merged.json again."
        ) from error
    images = {image.image_id: image for image in content.images}
    segments = defaultdict[int, list[tuple[int, Counts]]](list)
    for number, annotation in enumerate(content.annos_segmentation):
        image, runs = images.get(annotation.image_id), annotation.segmentation
        if image and runs.size != (image.height, image.width):
            raise UserError(
                f"{file}: annos_segmentation[{number}] has {runs.size[1]} x {runs.size[0]} pixels, "
                f"its image {image.file_name} {image.width} x {image.height}."
            )
        segments[annotation.image_id].append((annotation.category_id, runs.counts))
    strangers, bare = segments.keys() - images.keys(), images.keys() - segments.keys()
    if strangers and bare:
        raise UserError(
            f"{file}: annos_segmentation names {counted(len(strangers), 'image')} not listed in images"
            f" ({min(strangers)}), while {len(bare)} of those there have no annotation ({images[min(bare)].file_name})."
        )
    labels: dict[Part, dict[str, RleLabel]] = {"train": {}, "val": {}}
    for image in sorted(content.images, key=lambda image: image.file_name):
        labels[image.phase][PurePosixPath(image.file_name).stem] = RleLabel(
            f"{file}, image {image.file_name}", image.height, image.width, tuple(segments[image.image_id])
        )
    return labels
