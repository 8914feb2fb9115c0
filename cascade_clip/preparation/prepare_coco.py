"""Preparing COCO-Stuff 164K: 171 classes from the published maps of things and stuff."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import benchmark, get_split
from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.images import decode_label
from cascade_clip.data.mask_values import look_up, value_table
from cascade_clip.errors import UserError
from cascade_clip.preparation.masks import ImageWithMask, MaskLoader
from cascade_clip.preparation.prepared_writer import WriteOptions, refuse, write_prepared
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.preparation.source_files import check_counts, describe_archives
from cascade_clip.preparation.source_tree import Entry, SourceTree

_PARTS: tuple[Part, Part] = ("train", "val")
_COUNTS = benchmark("coco").counts

_LAST_VALUE = 181

# Values are label ids minus one. These things of COCO have a label id but were never drawn: street sign, hat, shoe, eye
# glasses, plate, mirror, window, desk, door, blender, hair brush (nightrome/cocostuff, labels.txt and README).
_NEVER_DRAWN = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}

_VALUES = sorted(set(range(_LAST_VALUE + 1)) - _NEVER_DRAWN)
_PUBLISHED = value_table({value: label for label, value in enumerate(_VALUES)})
_TRAIN_IDS = value_table({label: label for label in range(len(_VALUES))})

_CONVERTED = "_labelTrainIds"

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
    parts = _find_images(source, subset)
    split = get_split("coco")
    pairs: list[ImageWithMask] = [image.payload for images in parts.values() for image in images]
    return write_prepared(
        output,
        name=name,
        classes=split.class_names,
        colours=split.colours,
        parts=parts,
        load=MaskLoader(read_coco_mask),
        options={"from": "coco", "subset": subset},
        inputs=[source],
        sources=describe_archives(entry for pair in pairs for entry in (pair.image, pair.mask)),
        **writing,
    )


def _find_images(source: Path, subset: int | None) -> dict[Part, list[ImageSource]]:
    with SourceTree([source]) as tree:
        images = {part: tree.folder(f"{part}2017", (".jpg",)) for part in _PARTS}
        masks = {part: _find_masks(tree, part) for part in _PARTS}
        missing = [f"images of {part}2017 ({part}2017.zip)" for part in _PARTS if not images[part]]
        missing += [f"masks of {part}2017 (stuffthingmaps_trainval2017.zip)" for part in _PARTS if not masks[part]]
        if missing:
            raise UserError(
                f"COCO-Stuff is not complete in {tree.places}: there are no {', no '.join(missing)}. "
                "Put the official zips there, or what they unpack to."
            )
    problems = []
    for part in _PARTS:
        problems += [
            f"{images[part][stem]} has no mask {stem}.png." for stem in images[part] if stem not in masks[part]
        ]
        problems += [
            f"{masks[part][stem]} has no image {stem}.jpg." for stem in masks[part] if stem not in images[part]
        ]
    refuse(problems)
    if subset is None:
        check_counts(str(source), {part: len(images[part]) for part in _PARTS}, _COUNTS)
    return {
        part: [
            ImageSource(stem, ImageWithMask(images[part][stem], masks[part][stem])) for stem in [*images[part]][:subset]
        ]
        for part in _PARTS
    }


def _find_masks(tree: SourceTree, part: Part) -> dict[str, Entry]:
    """Masks by the image's name; published ones are looked for until there are some."""
    published: dict[str, Entry] = {}
    converted: dict[str, Entry] = {}
    for folder in _MASK_FOLDERS:
        if published or (converted and not folder):
            break
        for stem, entry in tree.folder(f"{folder}{part}2017", (".png",)).items():
            if stem.endswith(_CONVERTED):
                converted.setdefault(stem.removesuffix(_CONVERTED), entry)
            else:
                published[stem] = entry
    return converted | published


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
