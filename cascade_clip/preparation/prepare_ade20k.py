"""Preparing ADE20K, scene parsing challenge of 2016: 150 classes, everything else ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import benchmark, get_split
from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.images import decode_label
from cascade_clip.data.mask_values import look_up, value_table
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.paired_files import PARTS, Naming, pair_files, write_pairs
from cascade_clip.preparation.prepared_writer import WriteOptions
from cascade_clip.preparation.source_tree import Entry, SourceTree

_COUNTS = benchmark("ade20k").counts
_CLASSES = len(get_split("ade20k").classes)
_LABEL_OF_VALUE = value_table({0: IGNORED} | {label + 1: label for label in range(_CLASSES)})
_ARCHIVE = "ADEChallengeData2016.zip"
_FOLDERS: dict[Part, str] = {"train": "training", "val": "validation"}


def prepare_ade20k(
    output: Path,
    *,
    source: Path,
    subset: int | None = None,
    name: str = "ade20k",
    **writing: Unpack[WriteOptions],
) -> DatasetInfo:
    """Prepare the 150 classes of ADE20K from the archive of the scene parsing challenge, or from what it unpacks to.

    Args:
        output: Folder of the prepared dataset.
        source: `ADEChallengeData2016.zip`, the folder of this name, or a folder above either. (The full ADE20K, with
            thousands of classes in coloured masks, is another dataset.)
        subset: Take only the first so many images of each part, and do not compare counts.
        name: Name of the dataset.
        writing: `workers`, `overwrite` and `progress`, see `WriteOptions`.

    Returns:
        The content of `dataset.json`.

    Raises:
        UserError: Files are missing or have no partner, counts differ from the published ones, a mask holds a value
            above 150, or a file is broken; every problem with its file, and nothing is written.
    """
    with SourceTree([source]) as tree:
        images = {part: tree.folder(f"images/{_FOLDERS[part]}", (".jpg",)) for part in PARTS}
        masks = {part: tree.folder(f"annotations/{_FOLDERS[part]}", (".png",)) for part in PARTS}
        naming = Naming("ADE20K (scene parsing challenge)", _ARCHIVE, _ARCHIVE)
        pairs = pair_files(tree.places, images, masks, naming=naming, published=_COUNTS, subset=subset)
        return write_pairs(output, pairs, read_ade20k_mask, dataset="ade20k", name=name, subset=subset, **writing)


def read_ade20k_mask(mask: Entry) -> NDArray[np.uint8]:
    """Read one mask as label (H, W) uint8: class index 0..149, 255 = ignored.

    Masks hold 0 where nothing or another object is, which is no class, and 1..150.

    Raises:
        UserError: The file is broken, or holds a value that means no class.
    """
    explanation = f"masks of the scene parsing challenge hold 0 to {_CLASSES}, where 0 is no class."
    return look_up(decode_label(mask.read(), str(mask)), _LABEL_OF_VALUE, str(mask), explanation)
