"""Preparing COCO-Stuff 164K, 171 classes, and COCO-Object, its things, from the published maps of things and stuff.

The source is a folder with train2017.zip, val2017.zip and stuffthingmaps_trainval2017.zip, or with what they unpack to;
a folder wins over the archive it came from. Masks are looked for in annotations, stuffthingmaps and beside the images.

Published masks hold the label id minus one: 0..181, of which 171 are used, and 255 = unlabelled; the label is the rank
among the used ones. Masks already converted to train ids are named `*_labelTrainIds.png`. Where an image has both, the
published one is taken, because converters let unexpected values pass.

COCO-Object is the 80 things behind a background of all stuff and, as in the released conversion, of what is unlabelled:
no pixel is ignored. Masks that were converted to it are named `*_instanceTrainIds.png`.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.dataset_info import Part
from cascade_clip.data.mask_values import value_table
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.paired_files import Files, NumberedMasks, PairedBenchmark
from cascade_clip.preparation.source_tree import Entry, SourceTree

_LAST_VALUE = 181

# Values are label ids minus one. These things of COCO have a label id but were never drawn: street sign, hat, shoe, eye
# glasses, plate, mirror, window, desk, door, blender, hair brush (nightrome/cocostuff, labels.txt and README).
_NEVER_DRAWN = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}

_PUBLISHED_NAME, _CONVERTED, _CONVERTED_OBJECTS = "", "_labelTrainIds", "_instanceTrainIds"
"""Endings of the names of masks as published, converted to train ids, and converted to those of COCO-Object."""

_VALUES = sorted(set(range(_LAST_VALUE + 1)) - _NEVER_DRAWN)
_PUBLISHED = NumberedMasks(
    value_table({value: label for label, value in enumerate(_VALUES)}),
    f"masks of COCO-Stuff hold 0 to {_LAST_VALUE} without {len(_NEVER_DRAWN)} things that were never drawn, and 255 is "
    f"unlabelled. A mask that holds train ids is named NAME{_CONVERTED}.png.",
)
_TRAIN_IDS = NumberedMasks(
    value_table({label: label for label in range(len(_VALUES))}),
    f"train ids are 0 to {len(_VALUES) - 1}, and 255 is unlabelled. A mask as published is named like its image, "
    f"without {_CONVERTED}.",
)

_THINGS = 80
"""The first labels of COCO-Stuff, in the order of COCO-Object's, which begin behind background."""
_OBJECTS = NumberedMasks(
    value_table({label: label for label in range(_THINGS + 1)} | {IGNORED: -1}),
    f"masks named {_CONVERTED_OBJECTS} hold 0 to {_THINGS}, and no pixel is ignored.",
)

# Masks unpacked, masks in their archive, and masks unpacked into the same folder as the images.
_MASK_FOLDERS = ("annotations/", "stuffthingmaps/", "stuffthingmaps_trainval2017/", "")


def _find(tree: SourceTree, part: Part, *, endings: tuple[str, ...]) -> tuple[Files, Files]:
    """Find images, and masks of the first of these endings that there is; published ones end the search."""
    found: dict[str, dict[str, Entry]] = {_CONVERTED: {}, _CONVERTED_OBJECTS: {}, _PUBLISHED_NAME: {}}
    for folder in _MASK_FOLDERS:
        if found[_PUBLISHED_NAME] or (not folder and any(found[ending] for ending in endings)):
            break
        for stem, entry in tree.folder(f"{folder}{part}2017", (".png",)).items():
            ending = next(ending for ending in found if stem.endswith(ending))
            found[ending].setdefault(stem.removesuffix(ending), entry)
    masks: dict[str, Entry] = {}
    for ending in reversed(endings):
        masks |= found[ending]
    return tree.folder(f"{part}2017", (".jpg",)), masks


def read_coco_mask(mask: Entry) -> NDArray[np.uint8]:
    """Read one mask as label (H, W) uint8: class index 0..170, 255 = ignored; a `ReadMask`."""
    return _TRAIN_IDS(mask) if mask.stem.endswith(_CONVERTED) else _PUBLISHED(mask)


def read_object_mask(mask: Entry) -> NDArray[np.uint8]:
    """Read one mask as label (H, W) uint8 of COCO-Object: 0 = background, 1..80 = things; a `ReadMask`."""
    if mask.stem.endswith(_CONVERTED_OBJECTS):
        return _OBJECTS(mask)
    labels = read_coco_mask(mask)
    return np.where(labels < _THINGS, labels + 1, 0).astype(np.uint8)


_ARCHIVES = ("{}2017.zip", "stuffthingmaps_trainval2017.zip", "{}2017")
_ENDINGS = (_PUBLISHED_NAME, _CONVERTED)
prepare_coco = PairedBenchmark("coco", partial(_find, endings=_ENDINGS), read_coco_mask, *_ARCHIVES)
prepare_coco_object = PairedBenchmark(
    "coco-object", partial(_find, endings=(*_ENDINGS, _CONVERTED_OBJECTS)), read_object_mask, *_ARCHIVES
)
