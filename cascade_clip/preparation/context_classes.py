"""The 59 classes of PASCAL Context: their ids in the full annotation, and how converted masks number them.

Two orders circulate, alphabetical (mmsegmentation's conversion) and VOC's classes first (the official 59_labels.txt),
and masks count from 1 with 0 for no class or, reduced, from 0. A wrong order would give wrong labels without any error,
so that it is compared with VOC's own masks of the same images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.images import decode_label
from cascade_clip.errors import UserError
from cascade_clip.preparation.source_files import lines_of
from cascade_clip.preparation.source_tree import Entry, SourceTree

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
"""Id of each of the 59 classes in the full annotation (ECOSYSTEM section 3)."""

VOC_FIRST = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "table", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    # Not quite alphabetical from here on: curtain, bedclothes and the three from "platform" to "plate" stand apart.
    "bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "cloth", "computer", "cup", "door", "fence",
    "floor", "flower", "food", "grass", "ground", "keyboard", "light", "mountain", "mouse", "curtain", "platform",
    "sign", "plate", "road", "rock", "shelves", "sidewalk", "sky", "snow", "bedclothes", "track", "tree", "truck",
    "wall", "water", "window", "wood",
)
"""VOC's 20 classes first: the order of the official 59_labels.txt and its masks 59_context_labels, for which the unseen
indices of the released Cascade-CLIP were written."""
# fmt: on

ALIASES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
"""Names that VOC and 59_labels.txt have for classes of Context."""

ORDERS_EXPLAINED = (
    "alphabetical (aeroplane, bag, bed, ...: what mmsegmentation's conversion writes) or "
    "voc-first (aeroplane, bicycle, bird, ..., tvmonitor, bag, ...: the official 59_labels.txt)"
)
"""For messages: the two orders by their beginnings."""

# Compared are so many images with so many pixels of VOC's classes or more; the right order agrees on half of the pixels
# of so large a share of them: objects on a table and the cloth over a sofa are a class of Context and none of VOC.
_COMPARED, _PIXELS, _RIGHT_SHARE = 50, 500, 0.8

# The official masks of 33 classes begin with VOC's 20 as well; so many images of the 59 hold values above 33.
_CLASSES_OF_SMALL_SET, _ENOUGH_TO_TELL = 33, 20

_CLASS_LISTS = ("classes.txt", "labels.txt", "59_labels.txt")


@dataclass(frozen=True)
class Reading:
    """One way to read converted masks."""

    order: ClassOrder
    first_index: Literal[0, 1]
    """Value of the first class; where it is 1, 0 means no class. 255 never is a class."""

    @property
    def names(self) -> tuple[str, ...]:
        """The 59 class names in the order of the values."""
        return VOC_FIRST if self.order == "voc-first" else get_split("context").class_names

    def __str__(self) -> str:
        return f"{self.order} from {self.first_index}"


_ORDERS: tuple[ClassOrder, ...] = ("alphabetical", "voc-first")
_READINGS = tuple(Reading(order, first) for order in _ORDERS for first in (1, 0))


@dataclass(frozen=True)
class ListedOrder:
    """What a class list that lies beside masks says."""

    file: str
    order: ClassOrder
    first_index: int | None
    """Unset where the list has no numbers and no background."""


def find_listed_order(masks: Mapping[str, Entry], tree: SourceTree) -> ListedOrder | None:
    """Find a class list in the folder of masks or beside that folder.

    Args:
        masks: The masks by image, at least one.
        tree: What they were found in.

    Returns:
        What the first list of the 59 classes says; None where there is none.

    Raises:
        UserError: The list has the classes in an order of its own, or is no text.
    """
    folder = next(iter(masks.values())).place.parent
    for place in (folder, folder.parent):
        for name in _CLASS_LISTS:
            entry = tree.file(f"{place.name}/{name}")
            listed = _read_listed_order(entry) if entry else None
            if listed:
                return listed
    return None


def _read_listed_order(entry: Entry) -> ListedOrder | None:
    """Read a class list: one name a line, with or without numbers ("1: aeroplane") and background.

    Args:
        entry: The file.

    Returns:
        The order; None where the file lists anything but the 59 classes (`labels.txt` beside the MATLAB files has 459).

    Raises:
        UserError: The 59 classes stand there in neither order, or the file is no text.
    """
    lines = [re.fullmatch(r"(?:(\d+)\s*[:,\s]\s*)?(.*)", line) for line in lines_of(entry, "class list") if line]
    pairs = [(match[1], re.sub(r"[\s_]", "", match[2]).lower()) for match in lines if match]
    background = bool(pairs) and pairs[0][1] in ("background", "empty")
    pairs = pairs[background:]
    names = tuple(ALIASES.get(name, name) for _, name in pairs)
    if sorted(names) != sorted(CONTEXT_IDS):
        return None
    first = 1 if background else None if pairs[0][0] is None else int(pairs[0][0])
    for reading in _READINGS:
        if names == reading.names:
            return ListedOrder(str(entry), reading.order, first)
    raise UserError(
        f"{entry} lists the 59 classes in an order of its own; known are {ORDERS_EXPLAINED}. "
        "Convert the masks from the original annotation instead."
    )


def choose_reading(
    masks: Mapping[str, Entry],
    voc_masks: Mapping[str, Entry],
    *,
    given: ClassOrder | None,
    listed: ListedOrder | None,
    where: str,
) -> tuple[Reading, str]:
    """Decide how converted masks are read, and compare it with VOC's own masks of up to 50 of the images.

    The order is the one given; else the one of a class list beside the masks; else alphabetical, which then must be
    confirmed. Whether masks count from 0 or 1 is what agrees better with VOC's masks.

    Args:
        masks: The masks by image.
        voc_masks: VOC's own masks (SegmentationClass) by image, as far as there are any.
        given: The order that the user names.
        listed: What a class list beside the masks says.
        where: Where the masks lie, for messages.

    Returns:
        The reading, and what tells so: "VOC's own masks", the name of the class list, or "class_order".

    Raises:
        UserError: VOC's masks contradict the order (the message says in how many images each order agrees); the class
            list contradicts the order given; the masks are those of the 33 classes; or nothing tells the order or the
            start.
    """
    if given and listed and given != listed.order:
        raise UserError(
            f"--class-order {given} contradicts {listed.file}, which lists the classes {listed.order}. "
            "Leave --class-order out, or remove the list if it does not belong to these masks."
        )
    order = given or (listed.order if listed else "alphabetical")
    evidence = _compare_with_voc(masks, voc_masks, where)
    mine = max((reading for reading in _READINGS if reading.order == order), key=evidence.agreeing.__getitem__)
    other = max((reading for reading in _READINGS if reading.order != order), key=evidence.agreeing.__getitem__)
    if evidence.images and evidence.agreeing[mine] < _RIGHT_SHARE * evidence.images:
        raise _contradiction(evidence, mine, other, listed, where)
    if listed and evidence.images and listed.first_index not in (None, mine.first_index):
        raise UserError(
            f"{listed.file} counts the classes from {listed.first_index}, but the masks beside it from "
            f"{mine.first_index}. Remove the list if it does not belong to these masks."
        )
    if evidence.images and evidence.agreeing[other] < evidence.agreeing[mine]:
        return mine, "VOC's own masks"
    told_by = "class_order" if given else listed.file.rpartition("/")[2] if listed else None
    if told_by is None:
        why = "agree with both orders" if evidence.images else "cover none of them"
        raise UserError(
            f"The class order of the masks in {where} cannot be told: no class list lies beside them, and VOC's own "
            f"masks (SegmentationClass) {why}. Give --class-order {ORDERS_EXPLAINED}."
        )
    return (mine if evidence.images else _by_start(masks, order, listed, where)), told_by


@dataclass(frozen=True)
class _Evidence:
    images: int
    """Images compared."""
    agreeing: dict[Reading, int]
    """In how many of them each reading agrees with VOC on at least half of the pixels that VOC labels."""


def _compare_with_voc(masks: Mapping[str, Entry], voc_masks: Mapping[str, Entry], where: str) -> _Evidence:
    """Compare images evenly over all that VOC has masks of; one of another size is left to the preparation itself."""
    common = [stem for stem in masks if stem in voc_masks]
    images = largest = 0
    agreeing = dict.fromkeys(_READINGS, 0)
    for stem in common[:: max(len(common) // (2 * _COMPARED), 1)]:
        values = decode_label(masks[stem].read(), str(masks[stem]))
        voc = decode_label(voc_masks[stem].read(), str(voc_masks[stem]))
        labelled = (voc >= 1) & (voc <= 20)
        if images == _COMPARED or values.shape != voc.shape or np.count_nonzero(labelled) < _PIXELS:
            continue
        images += 1
        largest = max(largest, int(values[values != 255].max(initial=0)))
        for reading in _READINGS:
            agreeing[reading] += (values == _values_of_voc(reading)[voc])[labelled].mean() >= 0.5
    if images >= _ENOUGH_TO_TELL and largest <= _CLASSES_OF_SMALL_SET:
        raise UserError(
            f"The masks in {where} hold no value above {largest} in {images} images: "
            f"they are those of the {_CLASSES_OF_SMALL_SET} classes, but the 59 are needed."
        )
    return _Evidence(images, agreeing)


@cache
def _values_of_voc(reading: Reading) -> NDArray[np.uint8]:
    """Mask value by VOC's class 1..20; 255 for all others."""
    names = [ALIASES.get(name, name) for name in get_split("voc").class_names]
    table = np.full(256, 255, np.uint8)
    table[1:21] = [reading.names.index(name) + reading.first_index for name in names]
    return table


def _contradiction(
    evidence: _Evidence, mine: Reading, other: Reading, listed: ListedOrder | None, where: str
) -> UserError:
    way_out = "Give a folder in which all masks come from one conversion of the 59 classes."
    if evidence.agreeing[other] >= _RIGHT_SHARE * evidence.images:
        way_out = f"Remove {listed.file}, which says so." if listed else f"Give --class-order {other.order}."
    return UserError(
        f"The masks in {where} are not in the order {mine.order}: of {evidence.images} images compared with VOC's own "
        f"masks, {evidence.agreeing[mine]} agree in the order {mine.order}, {evidence.agreeing[other]} in the order "
        f"{other.order}. {way_out}"
    )


def _by_start(masks: Mapping[str, Entry], order: ClassOrder, listed: ListedOrder | None, where: str) -> Reading:
    """Tell the start without VOC's masks: by the class list, or by a value of 59, which only masks from 1 hold."""
    if listed and listed.first_index is not None:
        return Reading(order, 1 if listed.first_index else 0)
    if any((decode_label(mask.read(), str(mask)) == len(CONTEXT_IDS)).any() for mask in masks.values()):
        return Reading(order, 1)
    raise UserError(
        f"Whether 0 means no class or aeroplane cannot be told from the {len(masks)} masks in {where}: none holds 59, "
        "and none can be compared with VOC's own masks (SegmentationClass). Add those, or a classes.txt that "
        "begins with background where 0 means no class and with 0: aeroplane where it does not."
    )
