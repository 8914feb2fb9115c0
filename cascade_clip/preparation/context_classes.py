"""The 59 classes of PASCAL Context: their ids in the full annotation, and how converted masks number them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cascade_clip.data.catalogue import get_split
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


READINGS = tuple(Reading(order, first) for order in ("alphabetical", "voc-first") for first in (1, 0))
"""Every way in which converted masks circulate."""


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
    for reading in READINGS:
        if names == reading.names:
            return ListedOrder(str(entry), reading.order, first)
    raise UserError(
        f"{entry} lists the 59 classes in an order of its own; known are {ORDERS_EXPLAINED}. "
        "Convert the masks from the original annotation instead."
    )
