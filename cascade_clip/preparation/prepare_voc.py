"""Preparing PASCAL VOC 2012: 20 classes, background and borders ignored, with or without the SBD additions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.dataset_info import DatasetInfo, Part, SourceFile
from cascade_clip.data.images import decode_label
from cascade_clip.errors import UserError
from cascade_clip.preparation.archive_spool import spool_folder
from cascade_clip.preparation.masks import IndexMasks, PairLoader
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.problem_list import problem_list
from cascade_clip.preparation.sbd_additions import SPOOLED, Additions, find_additions, find_images, read_mat
from cascade_clip.preparation.shards import Sample
from cascade_clip.preparation.source_files import EntryPair, describe_archives, describe_file, lines_of
from cascade_clip.preparation.source_tree import Entry, SourceTree
from cascade_clip.progress import Progress

# Published numbers of images; with the additions the literature trains on 1,464 + 9,118 = 10,582 (ECOSYSTEM section 3).
_TRAIN, _VAL, _ADDED = 1464, 1449, 9118

_LISTS = "ImageSets/Segmentation"
_IMAGES, _MASKS = "JPEGImages", "SegmentationClass"


def prepare_voc(
    output: Path,
    *,
    source: Path,
    sbd: Path | None = None,
    subset: int | None = None,
    name: str = "voc",
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> DatasetInfo:
    """Prepare VOC 2012 from its official files, packed or unpacked.

    The training list is VOC's own; with the SBD additions it is (VOC train + SBD train + SBD val) minus VOC val,
    sorted. Where both have a mask, VOC's is taken. Stored 0 (background) and 255 (border) become 255, 1..20 become
    0..19 (SPEC section 1).

    Args:
        output: Folder of the prepared dataset.
        source: `VOCtrainval_11-May-2012.tar`, the folder `VOC2012`, or a folder above either.
        sbd: `benchmark.tgz` or SBD's own folder; or `SegmentationClassAug`, a folder or an archive; or a folder above
            one of these. Unset: they are used where `source` holds them.
        subset: Take only so many images of each part, and do not compare counts.
        name: Name of the dataset.
        workers: Processes.
        overwrite: Replace what is in `output`.
        progress: Called with (images done, images in all, file).

    Returns:
        What `dataset.json` says.

    Raises:
        UserError: Archives, lists or files are missing, counts differ from the published ones, or a file is broken;
            every problem with its file, and nothing is written.
    """
    spool = spool_folder(output)
    with SourceTree.open([source], spool=spool, spooled=(*SPOOLED, _LISTS, _IMAGES, _MASKS)) as tree:
        voc = _find_voc(tree)
        additions = _additions(tree, sbd, spool)
        ids = _image_ids(voc, additions)
        if subset is None:
            _check_counts(voc, ids, additions)
        chosen = {part: stems[:subset] for part, stems in ids.items()}
        lacking = {stem for stem in chosen["train"] if stem not in voc.images}
        other_images = find_images(additions, sbd or source, spool, lacking) if additions and lacking else {}
        parts = _samples(voc, additions, chosen, voc.images | other_images)
        classes = get_split("voc")
        return write_prepared(
            output,
            name=name,
            classes=classes.class_names,
            colours=classes.colours,
            parts=parts,
            load=PairLoader(VocMasks(len(classes.classes), first_index=1, ignore=frozenset({0}))),
            options={"from": "voc", "sbd": additions.kind if additions else None, "subset": subset},
            sources=_sources(voc, additions, parts),
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )


class VocMasks(IndexMasks):
    """Reads VOC's palette PNGs and SBD's MATLAB files."""

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Read one mask file; see `ReadMask`."""
        mask = read_mat(entry) if entry.suffix == ".mat" else decode_label(entry.read(), str(entry))
        return self.to_labels(mask, str(entry))


@dataclass(frozen=True)
class _Voc:
    """What was found of VOC itself."""

    places: str
    lists: dict[Part, Entry]
    ids: dict[Part, list[str]]
    images: dict[str, Entry]
    masks: dict[str, Entry]


def _find_voc(tree: SourceTree) -> _Voc:
    # A year's folder beside others is known by its name; a folder that was renamed must be the only one.
    first = tree.file(f"VOC2012/{_LISTS}/train.txt") or tree.file(f"{_LISTS}/train.txt")
    if first is None:
        raise UserError(
            f"VOC 2012 was not found in {tree.places}: there is no {_LISTS}/train.txt. "
            "Give VOCtrainval_11-May-2012.tar, the folder it lies in, or the unpacked VOCdevkit."
        )
    base = first.place.parents[2].name
    second = tree.file(f"{base}/{_LISTS}/val.txt")
    if second is None:
        raise UserError(f"VOC 2012 in {tree.places} is not complete: {_LISTS}/val.txt is missing beside {first}.")
    lists: dict[Part, Entry] = {"train": first, "val": second}
    return _Voc(
        tree.places,
        lists,
        {part: [line for line in lines_of(entry, "list of images") if line] for part, entry in lists.items()},
        tree.folder(f"{base}/{_IMAGES}", (".jpg",)),
        tree.folder(f"{base}/{_MASKS}", (".png",)),
    )


def _additions(tree: SourceTree, sbd: Path | None, spool: Path) -> Additions | None:
    """The SBD additions: those in VOC's own source may be missing, those that were asked for must be there."""
    if sbd is None:
        return find_additions(tree)
    own = SourceTree.open([sbd], spool=spool, spooled=SPOOLED)
    additions = find_additions(own)
    if additions is None:
        raise UserError(
            f"The SBD additions were not found in {own.places}: there is neither a folder cls with .mat files nor a "
            "folder SegmentationClassAug with .png files. Give benchmark.tgz, or the folder it was unpacked to."
        )
    return additions


def _image_ids(voc: _Voc, additions: Additions | None) -> dict[Part, list[str]]:
    added = additions.stems.difference(voc.ids["val"]) if additions else frozenset()
    return {"train": sorted(added.union(voc.ids["train"])), "val": voc.ids["val"]}


def _check_counts(voc: _Voc, ids: Mapping[Part, Sequence[str]], additions: Additions | None) -> None:
    train, val = len(set(voc.ids["train"])), len(set(ids["val"]))
    if (train, val) != (_TRAIN, _VAL):
        raise UserError(
            f"The lists of VOC 2012 in {voc.places} name {train} training and {val} validation images; published are "
            f"{_TRAIN} and {_VAL}. Complete it, or give --subset N to take N images of each."
        )
    added = len(ids["train"]) - train
    if additions and added != _ADDED:
        raise UserError(
            f"The SBD additions ({additions.kind}) give {added} training images that VOC 2012 has not; published are "
            f"{_ADDED}, for {_TRAIN + _ADDED} in all. Complete them, or give --subset N to take N images of each part."
        )


def _samples(
    voc: _Voc, additions: Additions | None, chosen: Mapping[Part, Sequence[str]], images: Mapping[str, Entry]
) -> dict[Part, list[Sample]]:
    # A mask that VOC should have is never made up for by SBD's, which is coarser.
    own = {*voc.ids["train"], *voc.ids["val"]}
    added = {stem: entry for stem, entry in (additions.masks if additions else {}).items() if stem not in own}
    masks = added | voc.masks
    problems = []
    for stem in (stem for stems in chosen.values() for stem in stems):
        if stem not in images:
            problems.append(f"{_IMAGES}/{stem}.jpg is missing in {voc.places}.")
        if stem not in masks:
            where = f"{_MASKS}/{stem}.png is missing in {voc.places}" if stem in own else f"{stem} has no mask of SBD"
            problems.append(f"{where}.")
    if problems:
        raise problem_list(problems)
    return {
        part: [Sample(stem, EntryPair(images[stem], masks[stem])) for stem in stems] for part, stems in chosen.items()
    }


def _sources(voc: _Voc, additions: Additions | None, parts: Mapping[Part, Sequence[Sample]]) -> list[SourceFile]:
    """The lists, and the archives that anything was read from."""
    lists = [*voc.lists.values(), *(additions.lists if additions else ())]
    pairs: list[EntryPair] = [sample.payload for samples in parts.values() for sample in samples]
    return [
        *map(describe_file, lists),
        *describe_archives([*lists, *(pair.image for pair in pairs), *(pair.mask for pair in pairs)]),
    ]
