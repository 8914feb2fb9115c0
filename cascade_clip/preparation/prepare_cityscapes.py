"""Preparing Cityscapes, fine annotations: the 19 classes that are evaluated, everything else ignored.

The source is a folder with leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, or with leftImg8bit and gtFine
themselves. Ids of labels (`*_gtFine_labelIds.png`, 0..33) become train ids 0..18, and all that are not evaluated 255.
Where there are none, masks that were converted to train ids (`*_gtFine_labelTrainIds.png`) are taken. Images are in the
order of city and name; the part "test", whose labels are not public, is left out.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.mask_values import value_table
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.paired_files import Files, NumberedMasks, PairedBenchmark
from cascade_clip.preparation.source_tree import Entry, SourceTree

log = logging.getLogger(__name__)

# Ids of the evaluated classes in the order of their train ids (cityscapesScripts, labels.py).
_EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_LAST_ID = 33
_OF_IDS = NumberedMasks(
    value_table(dict.fromkeys(range(_LAST_ID + 1), IGNORED) | {v: label for label, v in enumerate(_EVALUATED)}),
    f"ids of Cityscapes are 0 to {_LAST_ID}.",
)
_OF_TRAIN_IDS = NumberedMasks(
    value_table({label: label for label in range(len(_EVALUATED))}),
    f"train ids of Cityscapes are 0 to {len(_EVALUATED) - 1}, and 255 is ignored.",
)

_IMAGE = "_leftImg8bit"
_IDS, _TRAIN_IDS = "_gtFine_labelIds", "_gtFine_labelTrainIds"

_SIZE = (1024, 2048)


def prepare_cityscapes(output: Path, **options: Any) -> DatasetInfo:
    """Prepare Cityscapes, and warn where images have another size than published; see `prepare_dataset.prepare`."""
    info = _BENCHMARK(output, **options)
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
    return info


def _find(tree: SourceTree, part: Part) -> tuple[Files, Files]:
    masks = _of_all_cities(tree, f"gtFine/{part}", _IDS) or _of_all_cities(tree, f"gtFine/{part}", _TRAIN_IDS)
    return _of_all_cities(tree, f"leftImg8bit/{part}", _IMAGE), masks


def _of_all_cities(tree: SourceTree, folder: str, ending: str) -> Files:
    """PNGs with this ending of all cities' folders in a folder, by the name before the ending."""
    found: dict[str, Entry] = {}
    for city in tree.subfolders(folder):
        found |= tree.folder(f"{folder}/{city}", (".png",))
    return {stem.removesuffix(ending): entry for stem, entry in found.items() if stem.endswith(ending)}


def _read_mask(mask: Entry) -> NDArray[np.uint8]:
    return _OF_TRAIN_IDS(mask) if mask.stem.endswith(_TRAIN_IDS) else _OF_IDS(mask)


_BENCHMARK = PairedBenchmark(
    "cityscapes",
    _find,
    _read_mask,
    "leftImg8bit_trainvaltest.zip",
    "gtFine_trainvaltest.zip",
    image=f"{{}}{_IMAGE}.png",
    mask=f"{{}}{_IDS}.png",
)
