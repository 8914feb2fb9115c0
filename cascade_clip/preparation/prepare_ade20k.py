"""Preparing ADE20K, scene parsing challenge of 2016: 150 classes, everything else ignored.

The source is `ADEChallengeData2016.zip`, the folder of this name, or a folder above either; the full ADE20K, with
thousands of classes in coloured masks, is another dataset. Masks hold 0 where nothing or another object is, and 1..150.
"""

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.dataset_info import Part
from cascade_clip.data.mask_values import value_table
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.paired_files import Files, NumberedMasks, PairedBenchmark
from cascade_clip.preparation.source_tree import SourceTree

_CLASSES = len(get_split("ade20k").classes)
_LABEL_OF_VALUE = value_table({0: IGNORED} | {label + 1: label for label in range(_CLASSES)})
_ARCHIVE = "ADEChallengeData2016.zip"
_FOLDERS: dict[Part, str] = {"train": "training", "val": "validation"}


def _find(tree: SourceTree, part: Part) -> tuple[Files, Files]:
    folder = _FOLDERS[part]
    return tree.folder(f"images/{folder}", (".jpg",)), tree.folder(f"annotations/{folder}", (".png",))


_EXPLANATION = f"masks of the scene parsing challenge hold 0 to {_CLASSES}, where 0 is no class."
prepare_ade20k = PairedBenchmark("ade20k", _find, NumberedMasks(_LABEL_OF_VALUE, _EXPLANATION), _ARCHIVE, _ARCHIVE)
