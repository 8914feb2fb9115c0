"""Labels of PASCAL Context in their three encodings: MATLAB files, `trainval_merged.json` (COCO RLE), and PNG masks.

MATLAB and RLE carry the ids of the full annotation of 459 classes. Converted PNG masks number the 59 classes in one of
two orders, alphabetical (mmsegmentation's conversion) or VOC's classes first (the official 59_labels.txt), from 1 with
0 for no class or, reduced, from 0. A wrong order would give wrong labels without any error, so it is compared with
VOC's own masks of the same images.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.dataset_info import Part
from cascade_clip.data.images import decode_label
from cascade_clip.data.mask_values import value_table
from cascade_clip.errors import UserError, counted
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.masks import checked_run_lengths, import_extra, read_mat
from cascade_clip.preparation.paired_files import NumberedMasks
from cascade_clip.preparation.source_tree import Entry

ClassOrder = Literal["alphabetical", "voc-first"]
"""How converted masks number the 59 classes."""

LAST_ID = 459
"""Ids of the full annotation are 1 to this; 0 is no class."""

# fmt: off
CONTEXT_IDS = {
    "aeroplane": 2, "bag": 9, "bed": 18, "bedclothes": 19, "bench": 22, "bicycle": 23, "bird": 25, "boat": 31,
    "book": 33, "bottle": 34, "building": 44, "bus": 45, "cabinet": 46, "car": 59, "cat": 65, "ceiling": 68,
    "chair": 72, "cloth": 80, "computer": 85, "cow": 98, "cup": 104, "curtain": 105, "dog": 113, "door": 115,
    "fence": 144, "floor": 158, "flower": 159, "food": 162, "grass": 187, "ground": 189, "horse": 207,
    "keyboard": 220, "light": 232, "motorbike": 258, "mountain": 259, "mouse": 260, "person": 284, "plate": 295,
    "platform": 296, "pottedplant": 308, "road": 324, "rock": 326, "sheep": 347, "shelves": 349, "sidewalk": 354,
    "sign": 355, "sky": 360, "snow": 366, "sofa": 368, "table": 397, "track": 415, "train": 416, "tree": 420,
    "truck": 424, "tvmonitor": 427, "wall": 440, "water": 445, "window": 454, "wood": 458,
}
"""Id of each of the 59 classes in the full annotation."""

VOC_FIRST = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "table", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    # Not quite alphabetical from here on: see curtain, bedclothes and the three from "platform" to "plate".
    "bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "cloth", "computer", "cup", "door", "fence",
    "floor", "flower", "food", "grass", "ground", "keyboard", "light", "mountain", "mouse", "curtain", "platform",
    "sign", "plate", "road", "rock", "shelves", "sidewalk", "sky", "snow", "bedclothes", "track", "tree", "truck",
    "wall", "water", "window", "wood",
)
"""VOC's 20 classes first: the order of the official 59_labels.txt and its masks 59_context_labels, for which the unseen
indices of the released Cascade-CLIP were written."""
# fmt: on

_ALIASES = {"diningtable": "table"}  # VOC's name: Context's name

ORDERS_EXPLAINED = (
    "alphabetical (aeroplane, bag, bed, ...: what mmsegmentation's conversion writes) or "
    "voc-first (aeroplane, bicycle, bird, ..., tvmonitor, bag, ...: the official 59_labels.txt)"
)
"""For messages: the two orders by their beginnings."""

# Up to so many images are compared, each with so many pixels of VOC's classes or more. An order that agrees with this
# share of them is right; not with all, because the cloth over a sofa is a class of Context and none of VOC.
_COMPARED, _PIXELS, _RIGHT_SHARE = 50, 500, 0.8

# The official masks of 33 classes begin with VOC's 20 as well; in so many images, the 59 hold values above 33.
_CLASSES_OF_SMALL_SET, _ENOUGH_TO_TELL = 33, 20


@dataclass(frozen=True)
class Reading:
    """One way to read converted masks."""

    order: ClassOrder
    first_index: Literal[0, 1]
    """Value of the first class; with 1, 0 means no class. 255 never is a class."""

    @property
    def names(self) -> tuple[str, ...]:
        """The 59 class names in the order of the values."""
        return VOC_FIRST if self.order == "voc-first" else get_split("context").class_names


_ORDERS: tuple[ClassOrder, ...] = ("alphabetical", "voc-first")
_READINGS = tuple(Reading(order, first) for order in _ORDERS for first in (1, 0))


def choose_reading(
    masks: Mapping[str, Entry],
    voc_masks: Mapping[str, Entry],
    *,
    given: ClassOrder | None,
    assumed: ClassOrder = "alphabetical",
    where: str,
) -> tuple[Reading, str]:
    """Compare the order of converted masks with VOC's own masks (SegmentationClass) of up to 50 of the images.

    Both are given by image. `given` is the order that the user names; None: `assumed`, in which masks of this place are
    published; messages call it `where`. Gives the reading, which counts from 0 or 1 as agrees better, and what confirms
    the order: "VOC's own masks", or "class_order" where these agree with both orders. Raises UserError where VOC's
    masks contradict the order (the message says in how many images each order agrees) or agree with both, and none was
    given; there is none to compare with; or the masks are those of the 33 classes.
    """
    order = given or assumed
    images, agreeing = _compare_with_voc(masks, voc_masks, where)
    mine = max((reading for reading in _READINGS if reading.order == order), key=agreeing.__getitem__)
    other = max((reading for reading in _READINGS if reading.order != order), key=agreeing.__getitem__)
    if agreeing[mine] < _RIGHT_SHARE * images:
        way_out = f"Give --class-order {other.order}."
        if agreeing[other] < _RIGHT_SHARE * images:
            way_out = "Give a folder in which all masks come from one conversion of the 59 classes."
        raise UserError(
            f"The masks in {where} are not in the order {order}: of {images} images compared with VOC's own masks, "
            f"{agreeing[mine]} agree in the order {order}, {agreeing[other]} in the order {other.order}. {way_out}"
        )
    if not given and agreeing[other] >= agreeing[mine]:
        raise UserError(
            f"The class order of the masks in {where} is not clear: VOC's own masks (SegmentationClass) agree with "
            f"both orders. Give --class-order {ORDERS_EXPLAINED}."
        )
    return mine, "VOC's own masks" if agreeing[other] < agreeing[mine] else "class_order"


def _compare_with_voc(
    masks: Mapping[str, Entry], voc_masks: Mapping[str, Entry], where: str
) -> tuple[int, dict[Reading, int]]:
    """Compare images spread evenly over all that VOC has masks of; another size is reported when it is prepared.

    Gives the number of images compared, and in how many of them each reading agrees with VOC on at least half of the
    pixels that VOC labels.
    """
    common = [stem for stem in masks if stem in voc_masks]
    chosen = np.linspace(0, max(len(common) - 1, 0), min(len(common), _COMPARED)).round().astype(int)
    images = largest = 0
    agreeing = dict.fromkeys(_READINGS, 0)
    for stem in (common[index] for index in chosen):
        values = decode_label(masks[stem].read(), str(masks[stem]))
        voc = decode_label(voc_masks[stem].read(), str(voc_masks[stem]))
        labelled = (voc >= 1) & (voc <= 20)
        if values.shape != voc.shape or np.count_nonzero(labelled) < _PIXELS:
            continue
        images += 1
        largest = max(largest, int(values[values != IGNORED].max(initial=0)))
        for reading in _READINGS:
            agreeing[reading] += int((values == _values_of_voc(reading)[voc])[labelled].mean() >= 0.5)
    if not images:
        raise UserError(
            f"The class order of the masks in {where} cannot be checked: VOC's own masks cover none of them. Put the "
            "folder SegmentationClass of VOC 2010 beside its images."
        )
    if images >= _ENOUGH_TO_TELL and largest <= _CLASSES_OF_SMALL_SET:
        raise UserError(
            f"The masks in {where} hold no value above {largest} in {images} images: "
            f"they are those of the {_CLASSES_OF_SMALL_SET} classes, but the 59 are needed."
        )
    return images, agreeing


@cache
def _values_of_voc(reading: Reading) -> NDArray[np.uint8]:
    """Mask value by VOC's class 1..20; 255 for all others."""
    names = [_ALIASES.get(name, name) for name in get_split("voc").class_names]
    table = np.full(256, IGNORED, np.uint8)
    table[1:21] = [reading.names.index(name) + reading.first_index for name in names]
    return table


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
    return _labels_of_full_ids()[ids]


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
        try:
            region = coco.decode(checked_run_lengths(coco, counts, label.height, label.width))
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
    """Read `trainval_merged.json` as a whole: by part (`phase`) and image (file name without ending), its annotations.

    An image without any is ignored everywhere. Raises UserError where the file is no JSON, or cut off; keys are missing
    or have other values than they may; an image is listed twice; an annotation has another size than its image; or
    images have no annotation while there are annotations of images that are not listed (without the former, the latter
    are passed over).
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
    stems = [PurePosixPath(image.file_name).stem for image in content.images]
    for which, count in Counter([*stems, *(image.image_id for image in content.images)]).items():
        if count > 1:
            raise UserError(f"{file}: the image {which} is listed {count} times.")
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
