"""Preparing COCO-Stuff 164K: 171 classes from the published maps of things and stuff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.images import decode_label
from cascade_clip.errors import UserError
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.masks import PairLoader
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.problem_list import problem_list
from cascade_clip.preparation.shards import Sample
from cascade_clip.preparation.source_files import EntryPair, describe_archives
from cascade_clip.preparation.source_tree import Entry, SourceTree
from cascade_clip.progress import Progress

# Published numbers of images, each with a mask (ECOSYSTEM section 3).
_TRAIN, _VAL = 118_287, 5_000

_LAST_VALUE = 181

# Values are label ids minus one. These things of COCO have a label id but were never drawn (nightrome/cocostuff,
# labels.txt and README, "Label Names & Indices").
_NEVER_DRAWN = {
    11: "street sign",
    25: "hat",
    28: "shoe",
    29: "eye glasses",
    44: "plate",
    65: "mirror",
    67: "window",
    68: "desk",
    70: "door",
    82: "blender",
    90: "hair brush",
}

_CONVERTED = "_labelTrainIds"

# Masks unpacked, masks in their archive, and masks unpacked into the same folder as the images.
_MASK_FOLDERS = ("annotations", "stuffthingmaps", "stuffthingmaps_trainval2017", "")


def prepare_coco(
    output: Path,
    *,
    source: Path,
    subset: int | None = None,
    name: str = "coco",
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> DatasetInfo:
    """Prepare COCO-Stuff 164K from the official zips, from what they unpack to, or from some of each.

    Args:
        output: Folder of the prepared dataset.
        source: Folder to look in, see `coco_samples`.
        subset: Take only so many images of each part, and do not compare counts.
        name: Name of the dataset.
        workers: Processes.
        overwrite: Replace what is in `output`.
        progress: Called with (images done, images in all, file).

    Returns:
        What `dataset.json` says.

    Raises:
        UserError: Files are missing or have no partner, counts differ from the published ones, a mask holds a value
            that COCO-Stuff does not use, or a file is broken; every problem with its file, and nothing is written.
    """
    parts = coco_samples(source, subset)
    split = get_split("coco")
    pairs: list[EntryPair] = [sample.payload for samples in parts.values() for sample in samples]
    return write_prepared(
        output,
        name=name,
        classes=split.class_names,
        colours=split.colours,
        parts=parts,
        load=PairLoader(read_coco_mask),
        options={"from": "coco", "subset": subset},
        sources=describe_archives(entry for pair in pairs for entry in (pair.image, pair.mask)),
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )


def coco_samples(source: Path, subset: int | None = None) -> dict[Part, list[Sample]]:
    """Find the images of COCO-Stuff with their masks.

    Args:
        source: Folder with train2017.zip, val2017.zip and stuffthingmaps_trainval2017.zip, or with what they unpack to:
            images in .../train2017, masks in annotations/train2017, stuffthingmaps/train2017 or beside the images; the
            same for val2017. A folder on disk wins over the archive it came from. Masks already converted to train ids
            are named `*_labelTrainIds.png`; where an image has both, the published one is taken, because converters let
            unexpected values pass.
        subset: Take only the first so many images of each part, and do not compare counts.

    Returns:
        Samples of "train" and "val" by rising id, the image's name without ending; payloads are `EntryPair`.

    Raises:
        UserError: There are no images or no masks, some have no partner, or counts differ from the published ones; an
            archive is damaged.
    """
    parts: tuple[Part, Part] = ("train", "val")
    with SourceTree.open([source]) as tree:
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
        _check_counts(source, len(images["train"]), len(images["val"]))
    return {
        part: [Sample(stem, EntryPair(image, masks[part][stem])) for stem, image in [*images[part].items()][:subset]]
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


def _check_counts(source: Path, train: int, val: int) -> None:
    if (train, val) != (_TRAIN, _VAL):
        raise UserError(
            f"{source} gives {train} training and {val} validation images; published are {_TRAIN} and {_VAL}. "
            "Complete it, or give --subset N to take N images of each."
        )


def read_coco_mask(mask: Entry) -> NDArray[np.uint8]:
    """Read one mask as labels; see `cascade_clip.preparation.masks.ReadMask`.

    Published masks hold the label id minus one: 0..181, of which 171 are used, and 255 = unlabelled; the label is the
    rank among the used ones (ECOSYSTEM section 3). Masks named `*_labelTrainIds.png` hold labels already.

    Args:
        mask: A PNG with one channel; a palette's indices are kept.

    Returns:
        (H, W) uint8: class index 0..170, 255 = ignored.

    Raises:
        UserError: The file is broken, or holds a value that means no class.
    """
    values = decode_label(mask.read(), str(mask))
    converted = mask.stem.endswith(_CONVERTED)
    table = _table(converted)
    wrong = np.flatnonzero(np.bincount(values.ravel(), minlength=256)[:IGNORED] * (table[:IGNORED] == IGNORED)).tolist()
    if wrong:
        raise _unexpected(mask, wrong, converted)
    labels: NDArray[np.uint8] = table[values]
    return labels


@cache
def _table(converted: bool) -> NDArray[np.uint8]:
    """Label by stored value; 255 where a value means nothing."""
    used = [value for value in range(_LAST_VALUE + 1) if value not in _NEVER_DRAWN]
    labels = np.arange(len(used), dtype=np.uint8)
    table = np.full(256, IGNORED, np.uint8)
    table[labels if converted else used] = labels
    return table


def _unexpected(mask: Entry, values: Sequence[int], converted: bool) -> UserError:
    names = {} if converted else _NEVER_DRAWN
    shown = [f"{value} ({names[value]})" if value in names else str(value) for value in values[:5]]
    listed = ", ".join(shown) + (" ..." if len(values) > len(shown) else "")
    if converted:
        return UserError(
            f"{mask} holds {listed}, which is no train id: these are 0 to {_LAST_VALUE - len(_NEVER_DRAWN)}, and 255 "
            f"is unlabelled. A mask as published is named like its image, without {_CONVERTED}."
        )
    return UserError(
        f"{mask} holds {listed}, which no mask of COCO-Stuff does: the values are 0 to {_LAST_VALUE} without "
        f"{len(_NEVER_DRAWN)} things that were never drawn, and 255 is unlabelled. A mask that holds train ids is "
        f"named NAME{_CONVERTED}.png."
    )
