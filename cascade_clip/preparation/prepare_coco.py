"""Preparing COCO-Stuff 164K: 171 classes from the published maps of things and stuff."""

from __future__ import annotations

from collections.abc import Mapping
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
from cascade_clip.preparation.prepared_writer import WriteOptions, problem_list, write_prepared
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.preparation.source_files import check_counts, describe_archives
from cascade_clip.preparation.source_tree import Entry, SourceTree

# Published numbers of images, each with a mask.
_COUNTS = benchmark("coco").counts

_LAST_VALUE = 181

# Values are label ids minus one. These things of COCO have a label id but were never drawn: street sign, hat, shoe, eye
# glasses, plate, mirror, window, desk, door, blender, hair brush (nightrome/cocostuff, labels.txt and README).
_NEVER_DRAWN = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}

_PUBLISHED = value_table(
    {value: label for label, value in enumerate(sorted(set(range(_LAST_VALUE + 1)) - _NEVER_DRAWN))}
)

_CONVERTED = "_labelTrainIds"

# Masks unpacked, masks in their archive, and masks unpacked into the same folder as the images.
_MASK_FOLDERS = ("annotations", "stuffthingmaps", "stuffthingmaps_trainval2017", "")


def prepare_coco(
    output: Path,
    *,
    source: Path,
    subset: int | None = None,
    name: str = "coco",
    **writing: Unpack[WriteOptions],
) -> DatasetInfo:
    """Prepare COCO-Stuff 164K from the official zips, from what they unpack to, or from some of each.

    Args:
        output: Folder of the prepared dataset.
        source: Folder to look in, see `find_coco_images`.
        subset: Take only so many images of each part, and do not compare counts.
        name: Name of the dataset.
        writing: `workers`, `overwrite` and `progress`, see `WriteOptions`.

    Returns:
        What `dataset.json` says.

    Raises:
        UserError: Files are missing or have no partner, counts differ from the published ones, a mask holds a value
            that COCO-Stuff does not use, or a file is broken; every problem with its file, and nothing is written.
    """
    parts = find_coco_images(source, subset)
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
        sources=describe_archives(entry for pair in pairs for entry in (pair.image, pair.mask)),
        **writing,
    )


def find_coco_images(source: Path, subset: int | None = None) -> dict[Part, list[ImageSource]]:
    """Find the images of COCO-Stuff with their masks.

    Args:
        source: Folder with train2017.zip, val2017.zip and stuffthingmaps_trainval2017.zip, or with what they unpack to:
            images in .../train2017, masks in annotations/train2017, stuffthingmaps/train2017 or beside the images; the
            same for val2017. A folder on disk wins over the archive it came from. Masks already converted to train ids
            are named `*_labelTrainIds.png`; where an image has both, the published one is taken, because converters let
            unexpected values pass.
        subset: Take only the first so many images of each part, and do not compare counts.

    Returns:
        Images of "train" and "val" by rising id, the file's name without ending; payloads are `ImageWithMask`.

    Raises:
        UserError: There are no images or no masks, some have no partner, or counts differ from the published ones; an
            archive is damaged.
    """
    parts: tuple[Part, Part] = ("train", "val")
    with SourceTree([source]) as tree:
        images = {part: tree.folder(f"{part}2017", (".jpg",)) for part in parts}
        masks = {part: _find_masks(tree, part) for part in parts}
        missing = [f"images of {part}2017 ({part}2017.zip)" for part in parts if not images[part]]
        missing += [f"masks of {part}2017 (stuffthingmaps_trainval2017.zip)" for part in parts if not masks[part]]
        if missing:
            raise UserError(
                f"COCO-Stuff is not complete in {tree.places}: there are no {', no '.join(missing)}. "
                "Put the official zips there, or what they unpack to."
            )
    problems = [problem for part in parts for problem in _without_partner(images[part], masks[part])]
    if problems:
        raise problem_list(problems)
    if subset is None:
        check_counts(str(source), {part: len(images[part]) for part in parts}, _COUNTS)
    return {
        part: [
            ImageSource(stem, ImageWithMask(image, masks[part][stem]))
            for stem, image in [*images[part].items()][:subset]
        ]
        for part in parts
    }


def _find_masks(tree: SourceTree, part: Part) -> dict[str, Entry]:
    """Masks by the image's name; published ones are looked for until there are some."""
    published: dict[str, Entry] = {}
    converted: dict[str, Entry] = {}
    for folder in _MASK_FOLDERS:
        if published or (converted and not folder):
            break
        for stem, entry in tree.folder(f"{folder}/{part}2017".removeprefix("/"), (".png",)).items():
            if stem.endswith(_CONVERTED):
                converted.setdefault(stem.removesuffix(_CONVERTED), entry)
            else:
                published[stem] = entry
    return converted | published


def _without_partner(images: Mapping[str, Entry], masks: Mapping[str, Entry]) -> list[str]:
    return [
        *(f"{image} has no mask {stem}.png." for stem, image in images.items() if stem not in masks),
        *(f"{mask} has no image {stem}.jpg." for stem, mask in masks.items() if stem not in images),
    ]


def read_coco_mask(mask: Entry) -> NDArray[np.uint8]:
    """Read one mask as labels; see `cascade_clip.preparation.masks.ReadMask`.

    Published masks hold the label id minus one: 0..181, of which 171 are used, and 255 = unlabelled; the label is the
    rank among the used ones. Masks named `*_labelTrainIds.png` hold labels already.

    Args:
        mask: A PNG with one channel; a palette's indices are kept.

    Returns:
        (H, W) uint8: class index 0..170, 255 = ignored.

    Raises:
        UserError: The file is broken, or holds a value that means no class.
    """
    values, used = decode_label(mask.read(), str(mask)), _LAST_VALUE + 1 - len(_NEVER_DRAWN)
    if mask.stem.endswith(_CONVERTED):
        explanation = (
            f"train ids are 0 to {used - 1}, and 255 is unlabelled. A mask as published is named like its image, "
            f"without {_CONVERTED}."
        )
        return look_up(values, value_table({label: label for label in range(used)}), str(mask), explanation)
    explanation = (
        f"masks of COCO-Stuff hold 0 to {_LAST_VALUE} without {len(_NEVER_DRAWN)} things that were never drawn, and "
        f"255 is unlabelled. A mask that holds train ids is named NAME{_CONVERTED}.png."
    )
    return look_up(values, _PUBLISHED, str(mask), explanation)
