"""Preparing a dataset from any kind of source, the verb behind `prepare-data`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.errors import UserError, closest
from cascade_clip.preparation.prepare_ade20k import prepare_ade20k
from cascade_clip.preparation.prepare_cityscapes import prepare_cityscapes
from cascade_clip.preparation.prepare_coco import prepare_coco, prepare_coco_object
from cascade_clip.preparation.prepare_context import prepare_context
from cascade_clip.preparation.prepare_folder import prepare_source_folder
from cascade_clip.preparation.prepare_voc import prepare_voc

SOURCES: dict[str, Callable[..., DatasetInfo]] = {
    "ade20k": prepare_ade20k,
    "cityscapes": prepare_cityscapes,
    "coco": prepare_coco,
    "coco-object": prepare_coco_object,
    "context": prepare_context,
    "context-background": partial(prepare_context, background=True),
    "folder": prepare_source_folder,
    "voc": prepare_voc,
    "voc-background": partial(prepare_voc, background=True),
}
"""Makes a prepared dataset, by the kind of source. A new one is a file with such a function and a line here."""


def prepare(kind: str, source: Path | str, output: Path | str, **options: Any) -> DatasetInfo:
    """Make a prepared dataset, which training and evaluation read; gives the content of `dataset.json`.

        prepare("voc", "downloads", "prepared/voc", workers=4)

    Args:
        kind: A benchmark, "ade20k", "cityscapes", "coco" (COCO-Stuff 164K), "coco-object", "context" (PASCAL Context,
            59 classes), "context-background" (60), "voc" (VOC 2012, 20 classes) or "voc-background" (21); or "folder"
            (own images and masks).
        source: The folder or archive to read.
        output: Folder of the prepared dataset; empty or new, unless `overwrite=True` is given.
        options: `name` of the dataset (default: the benchmark's, or the output folder's), `workers`, `overwrite` and
            `progress` (see `write_prepared`); for a benchmark `subset`, to take only the first so many images of each
            part and compare no counts; and what the function in `SOURCES` takes besides.

    Raises:
        UserError: The kind is unknown, files are missing, broken or without a partner, a mask holds a value that means
            no class, or counts differ from the published ones; every problem with its file, and nothing is written.
    """
    if kind not in SOURCES:
        raise UserError(f'There is no kind of source "{kind}".{closest(kind, SOURCES)}')
    return SOURCES[kind](Path(output), source=Path(source), **options)
