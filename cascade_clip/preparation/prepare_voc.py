"""Preparing PASCAL VOC 2012: 20 classes, or 21 with background, with or without the SBD additions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import benchmark, get_split
from cascade_clip.data.dataset_info import DatasetInfo, Part, SourceFile
from cascade_clip.errors import UserError
from cascade_clip.preparation.archives import spool_folder
from cascade_clip.preparation.masks import MATLAB, ImageWithMask, IndexMasks, MaskLoader, import_extra, read_mat
from cascade_clip.preparation.prepared_writer import WriteOptions, write_prepared
from cascade_clip.preparation.problems import Problem, refuse
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.preparation.source_files import check_counts, describe_archives, describe_file, read_lines
from cascade_clip.preparation.source_tree import Entry, SourceTree

# Published numbers of images; with the additions the literature trains on 1,464 + 9,118 = 10,582.
_COUNTS = benchmark("voc").counts

_LISTS = "ImageSets/Segmentation"
_IMAGES, _MASKS = "JPEGImages", "SegmentationClass"
_AUG = "SegmentationClassAug"

# What is read of compressed archives; SBD's images are those of VOC 2012, which has them itself.
_SPOOLED_OF_SBD = ("cls", "dataset/train.txt", "dataset/val.txt", _AUG)
_SPOOLED = (*_SPOOLED_OF_SBD, _LISTS, _IMAGES, _MASKS)


def prepare_voc(
    output: Path,
    *,
    source: Path,
    sbd: Path | None = None,
    subset: int | None = None,
    background: bool = False,
    name: str | None = None,
    **writing: Unpack[WriteOptions],
) -> DatasetInfo:
    """Prepare VOC 2012 from its official files, packed or unpacked.

    The training list is VOC's own; with the SBD additions it is (VOC train + SBD train + SBD val) minus VOC val,
    sorted. Where both have a mask, VOC's is taken. Stored 0 (background) and 255 (border) become 255, 1..20 become
    0..19 (SPEC section 1); with `background`, 0..20 stay as they are, and only the border is ignored.

    Args:
        source: `VOCtrainval_11-May-2012.tar`, the folder `VOC2012`, or a folder above either.
        sbd: `benchmark.tgz` or SBD's own folder; or `SegmentationClassAug`, a folder or an archive; or a folder above
            one of these. None: used if in `source`.
        background: Make background class 0, for the split `voc-background`.

    Other arguments, result and errors are those of `prepare_dataset.prepare`.
    """
    spool = spool_folder(output)
    with SourceTree([source], spool=spool, spooled=_SPOOLED) as tree:
        voc = _find_voc(tree)
        additions = _additions(tree, sbd, spool)
        added = additions.stems.difference(voc.ids["val"]) if additions else ()
        ids: dict[Part, list[str]] = {"train": sorted({*added, *voc.ids["train"]}), "val": voc.ids["val"]}
        if additions and additions.kind == "SBD":
            import_extra(MATLAB, "The .mat files of SBD")
        if subset is None:
            _check_counts(voc, ids, additions)
        chosen = {part: stems[:subset] for part, stems in ids.items()}
        images = voc.images
        if additions and not images.keys() >= set(chosen["train"]):
            images = _sbd_images(additions, sbd or source, spool) | images
        parts = _image_sources(voc, additions, chosen, images)
        classes = get_split("voc-background" if background else "voc")
        no_class = frozenset[int]() if background else frozenset({0})
        return write_prepared(
            output,
            name=name or classes.dataset,
            classes=classes.class_names,
            colours=classes.colours,
            parts=parts,
            load=MaskLoader(VocMasks(len(classes.classes), first_index=len(no_class), ignore=no_class)),
            options={"from": classes.dataset, "sbd": additions.kind if additions else None, "subset": subset},
            inputs=[source, *([sbd] if sbd else [])],
            sources=_sources(voc, additions, parts),
            **writing,
        )


class VocMasks(IndexMasks):
    """Reads VOC's palette PNGs and SBD's MATLAB files."""

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Read one mask file; see `ReadMask`."""
        if entry.suffix != ".mat":
            return super().__call__(entry)
        mask = read_mat(entry, "SBD", lambda content: content["GTcls"][0]["Segmentation"][0], largest=255)
        return self.to_labels(mask.astype(np.uint8), str(entry))


@dataclass(frozen=True)
class _Voc2012:
    places: str
    lists: dict[Part, Entry]
    ids: dict[Part, list[str]]
    images: dict[str, Entry]
    masks: dict[str, Entry]


def _find_voc(tree: SourceTree) -> _Voc2012:
    # A year's folder beside others is known by its name; a folder that was renamed must be the only one.
    first = tree.file(f"VOC2012/{_LISTS}/train.txt") or tree.file(f"{_LISTS}/train.txt")
    if first is None:
        raise UserError(
            f"VOC 2012 was not found in {tree.places}: there is no {_LISTS}/train.txt. "
            "Give VOCtrainval_11-May-2012.tar, its folder, or the unpacked VOCdevkit."
        )
    base = first.place.parents[2].name
    second = tree.file(f"{base}/{_LISTS}/val.txt")
    if second is None:
        raise UserError(f"VOC 2012 in {tree.places} is not complete: {_LISTS}/val.txt is missing beside {first}.")
    lists: dict[Part, Entry] = {"train": first, "val": second}
    return _Voc2012(
        tree.places,
        lists,
        {part: [line for line in read_lines(entry, "list of images") if line] for part, entry in lists.items()},
        tree.folder(f"{base}/{_IMAGES}", (".jpg",)),
        tree.folder(f"{base}/{_MASKS}", (".png",)),
    )


@dataclass(frozen=True)
class _Additions:
    """Masks that are added to VOC's own."""

    kind: str
    """ "SBD" (MATLAB files) or "SegmentationClassAug" (PNGs)."""
    masks: dict[str, Entry]
    """By image."""
    stems: frozenset[str]
    """The images that SBD's own lists name; without these lists, all that have a mask."""
    lists: tuple[Entry, ...] = ()


def _additions(tree: SourceTree, sbd: Path | None, spool: Path) -> _Additions | None:
    """The SBD additions, which may be missing in VOC's own source, but not where the user says they are."""
    if sbd is None:
        return _find_additions(tree)
    own = SourceTree([sbd], spool=spool, spooled=_SPOOLED_OF_SBD)
    additions = _find_additions(own)
    if not additions:
        raise UserError(
            f"The SBD additions were not found in {own.places}: there is neither a folder cls with .mat files nor a "
            f"folder {_AUG} with .png files. Give benchmark.tgz, or the folder it was unpacked to."
        )
    return additions


def _find_additions(tree: SourceTree) -> _Additions | None:
    """Look for SBD's own files, then for SegmentationClassAug."""
    masks = tree.folder("dataset/cls", (".mat",)) or tree.folder("cls", (".mat",))
    if not masks:
        masks = tree.folder(_AUG, (".png",))
        return _Additions(_AUG, masks, frozenset(masks)) if masks else None
    base = _folder_above(masks)
    lists = [entry for part in ("train", "val") if (entry := tree.file(f"{base}/{part}.txt"))]
    if len(lists) < 2:
        return _Additions("SBD", masks, frozenset(masks))
    named = frozenset(line for entry in lists for line in read_lines(entry, "list of SBD") if line)
    return _Additions("SBD", masks, named, tuple(lists))


def _folder_above(files: Mapping[str, Entry]) -> str:
    """Name of the folder above the files' own."""
    return next(iter(files.values())).place.parents[1].name


def _sbd_images(additions: _Additions, source: Path, spool: Path) -> dict[str, Entry]:
    """SBD's own images, for a VOC 2012 that lacks some."""
    folder = f"{_folder_above(additions.masks)}/img"
    return SourceTree([source], spool=spool, spooled=[folder]).folder(folder, (".jpg",))


def _check_counts(voc: _Voc2012, ids: Mapping[Part, Sequence[str]], additions: _Additions | None) -> None:
    own = {part: len(set(stems)) for part, stems in voc.ids.items()}
    check_counts(f"VOC 2012 in {voc.places}", own, _COUNTS)
    added = len(ids["train"]) - own["train"]
    if additions and added != _COUNTS["added"]:
        published, own_published = _COUNTS["added"], _COUNTS["train"]
        raise UserError(
            f"The SBD additions ({additions.kind}) give {added:,} training images beside those of VOC 2012; published "
            f"are {published:,}, for {own_published + published:,} in all. Complete them, or give "
            "--subset N to take N images of each part."
        )


def _image_sources(
    voc: _Voc2012, additions: _Additions | None, chosen: Mapping[Part, Sequence[str]], images: Mapping[str, Entry]
) -> dict[Part, list[ImageSource]]:
    # A mask that VOC should have is never made up for by SBD's, which is coarser.
    own = {*voc.ids["train"], *voc.ids["val"]}
    added = {stem: mask for stem, mask in (additions.masks if additions else {}).items() if stem not in own}
    masks = added | voc.masks
    problems: list[Problem] = []
    for stem in (stem for stems in chosen.values() for stem in stems):
        if stem not in images:
            problems.append(Problem(f"{_IMAGES}/{stem}.jpg is missing in {voc.places}.", stem))
        if stem not in masks:
            where = f"{_MASKS}/{stem}.png is missing in {voc.places}" if stem in own else f"{stem} has no mask of SBD"
            problems.append(Problem(f"{where}.", stem))
    refuse(problems)
    return {
        part: [ImageSource(stem, ImageWithMask(images[stem], masks[stem])) for stem in stems]
        for part, stems in chosen.items()
    }


def _sources(
    voc: _Voc2012, additions: _Additions | None, parts: Mapping[Part, Sequence[ImageSource]]
) -> list[SourceFile]:
    """The lists, and the archives that anything is read from."""
    lists = [*voc.lists.values(), *(additions.lists if additions else ())]
    pairs: list[ImageWithMask] = [image.payload for images in parts.values() for image in images]
    files = [entry for pair in pairs for entry in (pair.image, pair.mask)]
    return [*map(describe_file, lists), *describe_archives([*lists, *files])]
