"""Preparing Cityscapes, fine annotations: the 19 classes that are evaluated, everything else ignored."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import benchmark
from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.data.images import decode_label
from cascade_clip.data.mask_values import look_up, value_table
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.paired_files import PARTS, Naming, pair_files, write_pairs
from cascade_clip.preparation.prepared_writer import WriteOptions
from cascade_clip.preparation.source_tree import Entry, SourceTree

log = logging.getLogger(__name__)

_COUNTS = benchmark("cityscapes").counts

# Ids of the evaluated classes in the order of their train ids (cityscapesScripts, labels.py).
_EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_LAST_ID = 33
_OF_IDS = value_table(dict.fromkeys(range(_LAST_ID + 1), IGNORED) | {v: label for label, v in enumerate(_EVALUATED)})
_OF_TRAIN_IDS = value_table({label: label for label in range(len(_EVALUATED))})

_IMAGE = "_leftImg8bit"
_IDS, _TRAIN_IDS = "_gtFine_labelIds", "_gtFine_labelTrainIds"

_SIZE = (1024, 2048)


def prepare_cityscapes(
    output: Path,
    *,
    source: Path,
    subset: int | None = None,
    name: str = "cityscapes",
    **writing: Unpack[WriteOptions],
) -> DatasetInfo:
    """Prepare Cityscapes from the official zips, from what they unpack to, or from one of each.

    Ids of labels (`*_gtFine_labelIds.png`) become train ids 0..18, and all that are not evaluated 255. Where there are
    none, masks that were converted to train ids (`*_gtFine_labelTrainIds.png`) are taken. Images are ordered by city
    and name; the part "test", whose labels are not public, is left out.

    Args:
        output: Folder of the prepared dataset.
        source: Folder with leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, or with the folders leftImg8bit
            and gtFine; a folder wins over the archive it came from.
        subset: Take only the first so many images of each part, and do not compare counts.
        name: Name of the dataset.
        writing: `workers`, `overwrite` and `progress`, see `WriteOptions`.

    Returns:
        The content of `dataset.json`.

    Raises:
        UserError: Files are missing or have no partner, counts differ from the published ones, a mask holds a value
            that is no id, or a file is broken; every problem with its file, and nothing is written.
    """
    with SourceTree([source]) as tree:
        images = {part: _of_all_cities(tree, f"leftImg8bit/{part}", _IMAGE) for part in PARTS}
        masks = {
            part: _of_all_cities(tree, f"gtFine/{part}", _IDS) or _of_all_cities(tree, f"gtFine/{part}", _TRAIN_IDS)
            for part in PARTS
        }
        naming = Naming(
            "Cityscapes",
            "leftImg8bit_trainvaltest.zip",
            "gtFine_trainvaltest.zip",
            image=f"{{}}{_IMAGE}.png",
            mask=f"{{}}{_IDS}.png",
        )
        pairs = pair_files(tree.places, images, masks, naming=naming, published=_COUNTS, subset=subset)
        info = write_pairs(
            output, pairs, read_cityscapes_mask, dataset="cityscapes", name=name, subset=subset, **writing
        )
    _warn_of_other_sizes(info)
    return info


def _of_all_cities(tree: SourceTree, folder: str, ending: str) -> dict[str, Entry]:
    """PNGs with this ending of all cities' folders in a folder, by the name before the ending."""
    found: dict[str, Entry] = {}
    for city in tree.subfolders(folder):
        found |= tree.folder(f"{folder}/{city}", (".png",))
    return {stem.removesuffix(ending): entry for stem, entry in found.items() if stem.endswith(ending)}


def read_cityscapes_mask(mask: Entry) -> NDArray[np.uint8]:
    """Read one mask as label (H, W) uint8: train id 0..18, 255 = ignored.

    Masks hold ids 0..33 of which 19 are evaluated; those named `*_labelTrainIds.png` hold train ids already.

    Raises:
        UserError: The file is broken, or holds a value that is no id.
    """
    values = decode_label(mask.read(), str(mask))
    if mask.stem.endswith(_TRAIN_IDS):
        explanation = f"train ids of Cityscapes are 0 to {len(_EVALUATED) - 1}, and 255 is ignored."
        return look_up(values, _OF_TRAIN_IDS, str(mask), explanation)
    return look_up(values, _OF_IDS, str(mask), f"ids of Cityscapes are 0 to {_LAST_ID}.")


def _warn_of_other_sizes(info: DatasetInfo) -> None:
    for part, content in info.parts.items():
        if {content.smallest, content.largest} - {_SIZE, None}:
            log.warning(
                "Images of %s are %s to %s pixels high and wide, those of Cityscapes are known to be %s: scores of "
                "resized images do not compare with published ones.",
                part,
                content.smallest,
                content.largest,
                _SIZE,
            )
