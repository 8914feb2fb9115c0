"""Preparing COCO-Stuff 164K, 171 classes, and COCO-Object, its things, from the published maps of things and stuff."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import benchmark
from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.images import decode_label
from cascade_clip.data.mask_values import look_up, value_table
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.paired_files import PARTS, Naming, Pairs, pair_files, write_pairs
from cascade_clip.preparation.prepared_writer import WriteOptions
from cascade_clip.preparation.source_tree import Entry, SourceTree

_COUNTS = benchmark("coco").counts

_LAST_VALUE = 181

# Values are label ids minus one. These things of COCO have a label id but were never drawn: street sign, hat, shoe, eye
# glasses, plate, mirror, window, desk, door, blender, hair brush (nightrome/cocostuff, labels.txt and README).
_NEVER_DRAWN = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}

_VALUES = sorted(set(range(_LAST_VALUE + 1)) - _NEVER_DRAWN)
_PUBLISHED = value_table({value: label for label, value in enumerate(_VALUES)})
_TRAIN_IDS = value_table({label: label for label in range(len(_VALUES))})

_THINGS = 80
"""The first labels of COCO-Stuff, in the order of COCO-Object's, which begin behind background."""
_OBJECTS = value_table({label: label for label in range(_THINGS + 1)})
_OBJECTS[IGNORED] = -1

_PUBLISHED_NAME, _CONVERTED, _CONVERTED_OBJECTS = "", "_labelTrainIds", "_instanceTrainIds"
"""Endings of the names of masks as published, converted to train ids, and converted to those of COCO-Object."""

# Masks unpacked, masks in their archive, and masks unpacked into the same folder as the images.
_MASK_FOLDERS = ("annotations/", "stuffthingmaps/", "stuffthingmaps_trainval2017/", "")


def prepare_coco(
    output: Path,
    *,
    source: Path,
    subset: int | None = None,
    name: str = "coco",
    **writing: Unpack[WriteOptions],
) -> DatasetInfo:
    """Prepare COCO-Stuff 164K from the official zips, from what they unpack to, or from some of each.

    Images are ordered by id. Masks are looked for in annotations, stuffthingmaps and beside the images; those already
    converted to train ids are named `*_labelTrainIds.png`. Where an image has both, the published one is taken, because
    converters let unexpected values pass.

    Args:
        output: Folder of the prepared dataset.
        source: Folder with train2017.zip, val2017.zip and stuffthingmaps_trainval2017.zip, or with what they unpack to;
            a folder wins over the archive it came from.
        subset: Take only the first so many images of each part, and do not compare counts.
        name: Name of the dataset.
        writing: `workers`, `overwrite` and `progress`, see `WriteOptions`.

    Returns:
        The content of `dataset.json`.

    Raises:
        UserError: Files are missing or have no partner, counts differ from the published ones, a mask holds a value
            that COCO-Stuff does not use, or a file is broken; every problem with its file, and nothing is written.
    """
    pairs = _find_pairs(source, subset, (_PUBLISHED_NAME, _CONVERTED))
    return write_pairs(output, pairs, read_coco_mask, dataset="coco", name=name, subset=subset, **writing)


def prepare_coco_object(
    output: Path,
    *,
    source: Path,
    subset: int | None = None,
    name: str = "coco-object",
    **writing: Unpack[WriteOptions],
) -> DatasetInfo:
    """Prepare COCO-Object, the 80 things and a background, from the files of COCO-Stuff 164K.

    Background is all stuff and, as in the released conversion, what is unlabelled: no pixel is ignored. Masks that were
    converted before are named `*_instanceTrainIds.png`. Arguments, result and errors are those of `prepare_coco`.
    """
    pairs = _find_pairs(source, subset, (_PUBLISHED_NAME, _CONVERTED, _CONVERTED_OBJECTS))
    return write_pairs(output, pairs, read_object_mask, dataset="coco-object", name=name, subset=subset, **writing)


def _find_pairs(source: Path, subset: int | None, endings: Sequence[str]) -> Pairs:
    with SourceTree([source]) as tree:
        images = {part: tree.folder(f"{part}2017", (".jpg",)) for part in PARTS}
        masks = {part: _find_masks(tree, part, endings) for part in PARTS}
        naming = Naming("COCO-Stuff", "{}2017.zip", "stuffthingmaps_trainval2017.zip", "{}2017")
        return pair_files(tree.places, images, masks, naming=naming, published=_COUNTS, subset=subset)


def _find_masks(tree: SourceTree, part: Part, endings: Sequence[str]) -> dict[str, Entry]:
    """Masks by the image's name, of the first of these endings that it has; published ones end the search."""
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
    return masks


def read_coco_mask(mask: Entry) -> NDArray[np.uint8]:
    """Read one mask as label (H, W) uint8: class index 0..170, 255 = ignored.

    Published masks hold the label id minus one: 0..181, of which 171 are used, and 255 = unlabelled; the label is the
    rank among the used ones. Masks named `*_labelTrainIds.png` hold labels already.

    Raises:
        UserError: The file is broken, or holds a value that means no class.
    """
    values = decode_label(mask.read(), str(mask))
    if mask.stem.endswith(_CONVERTED):
        explanation = (
            f"train ids are 0 to {len(_VALUES) - 1}, and 255 is unlabelled. A mask as published is named like its "
            f"image, without {_CONVERTED}."
        )
        return look_up(values, _TRAIN_IDS, str(mask), explanation)
    explanation = (
        f"masks of COCO-Stuff hold 0 to {_LAST_VALUE} without {len(_NEVER_DRAWN)} things that were never drawn, and "
        f"255 is unlabelled. A mask that holds train ids is named NAME{_CONVERTED}.png."
    )
    return look_up(values, _PUBLISHED, str(mask), explanation)


def read_object_mask(mask: Entry) -> NDArray[np.uint8]:
    """Read one mask as label (H, W) uint8 of COCO-Object: 0 = background, 1..80 = things in the order of COCO-Stuff.

    Published masks and those of train ids are read as by `read_coco_mask`; stuff and unlabelled pixels become 0, as in
    the released conversion. Masks named `*_instanceTrainIds.png` hold labels already.

    Raises:
        UserError: The file is broken, or holds a value that means no class.
    """
    if mask.stem.endswith(_CONVERTED_OBJECTS):
        explanation = f"masks named {_CONVERTED_OBJECTS} hold 0 to {_THINGS}, and no pixel is ignored."
        return look_up(decode_label(mask.read(), str(mask)), _OBJECTS, str(mask), explanation)
    labels = read_coco_mask(mask)
    return np.where(labels < _THINGS, labels + 1, 0).astype(np.uint8)
