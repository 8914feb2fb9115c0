"""Preparing PASCAL VOC 2012: 20 classes, or 21 with background, with or without the SBD additions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import benchmark, get_split
from cascade_clip.data.dataset_info import DatasetInfo, Part
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

    `source` is `VOCtrainval_11-May-2012.tar`, the folder `VOC2012`, or a folder above either. `sbd` is `benchmark.tgz`
    or SBD's own folder; or `SegmentationClassAug`, a folder or an archive; or a folder above one of these; None: used
    if in `source`. Other arguments, result and errors are those of `prepare_dataset.prepare`.
    """
    with SourceTree([source], spool=spool_folder(output)) as tree:
        voc = _find_voc(tree)
        additions = _find_additions(SourceTree([sbd], spool=spool_folder(output)) if sbd else tree)
        if sbd and not additions.masks:
            raise UserError(
                f"The SBD additions were not found in {sbd.absolute()}: there is neither a folder cls with .mat files "
                f"nor a folder {_AUG} with .png files. Give benchmark.tgz, or the folder it was unpacked to."
            )
        ids: dict[Part, list[str]] = {
            "train": sorted({*voc.ids["train"], *additions.ids.difference(voc.ids["val"])}),
            "val": voc.ids["val"],
        }
        if additions.kind == "SBD":
            import_extra(MATLAB, "The .mat files of SBD")
        if subset is None:
            _check_counts(voc, len(ids["train"]), additions)
        parts = {part: _image_sources(stems[:subset], voc, additions) for part, stems in ids.items()}
        classes = get_split("voc-background" if background else "voc")
        no_class = frozenset[int]() if background else frozenset({0})
        lists = [*voc.lists.values(), *additions.lists]
        pairs: list[ImageWithMask] = [image.payload for images in parts.values() for image in images]
        files = [entry for pair in pairs for entry in (pair.image, pair.mask)]
        return write_prepared(
            output,
            name=name or classes.dataset,
            classes=classes.class_names,
            colours=classes.colours,
            parts=parts,
            load=MaskLoader(VocMasks(len(classes.classes), first_index=len(no_class), ignore=no_class)),
            options={"from": classes.dataset, "sbd": additions.kind, "subset": subset},
            inputs=[source, *([sbd] if sbd else [])],
            sources=[*map(describe_file, lists), *describe_archives([*lists, *files])],
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
    return _Voc2012(
        tree.places,
        {"train": first, "val": second},
        {"train": read_lines(first, "list of images"), "val": read_lines(second, "list of images")},
        tree.folder(f"{base}/{_IMAGES}", (".jpg",)),
        tree.folder(f"{base}/{_MASKS}", (".png",)),
    )


@dataclass(frozen=True)
class _Additions:
    """Masks that are added to VOC's own."""

    kind: str | None = None
    """ "SBD" (MATLAB files) or "SegmentationClassAug" (PNGs); None: there are none."""
    masks: Mapping[str, Entry] = field(default_factory=dict)
    """By image."""
    ids: frozenset[str] = frozenset()
    """The images that SBD's own lists name; without these lists, all that have a mask."""
    lists: tuple[Entry, ...] = ()
    images: Mapping[str, Entry] = field(default_factory=dict)
    """SBD's own images, for a VOC 2012 that lacks some."""


def _find_additions(tree: SourceTree) -> _Additions:
    """Look for SBD's own files, then for SegmentationClassAug."""
    masks = tree.folder("dataset/cls", (".mat",)) or tree.folder("cls", (".mat",))
    if not masks:
        masks = tree.folder(_AUG, (".png",))
        return _Additions(_AUG, masks, frozenset(masks)) if masks else _Additions()
    base = next(iter(masks.values())).place.parents[1].name
    lists = tuple(entry for part in ("train", "val") if (entry := tree.file(f"{base}/{part}.txt")))
    images = tree.folder(f"{base}/img", (".jpg",))
    if len(lists) < 2:
        return _Additions("SBD", masks, frozenset(masks), images=images)
    ids = frozenset(line for entry in lists for line in read_lines(entry, "list of SBD"))
    return _Additions("SBD", masks, ids, lists, images)


def _check_counts(voc: _Voc2012, train: int, additions: _Additions) -> None:
    own = {part: len(set(stems)) for part, stems in voc.ids.items()}
    check_counts(f"VOC 2012 in {voc.places}", own, _COUNTS)
    added = train - own["train"]
    if additions.kind and added != _COUNTS["added"]:
        published, own_published = _COUNTS["added"], _COUNTS["train"]
        raise UserError(
            f"The SBD additions ({additions.kind}) give {added:,} training images beside those of VOC 2012; published "
            f"are {published:,}, for {own_published + published:,} in all. Complete them, or give "
            "--subset N to take N images of each part."
        )


def _image_sources(stems: Sequence[str], voc: _Voc2012, additions: _Additions) -> list[ImageSource]:
    # A mask that VOC should have is never made up for by SBD's, which is coarser.
    own = {*voc.ids["train"], *voc.ids["val"]}
    masks = {stem: mask for stem, mask in additions.masks.items() if stem not in own} | voc.masks
    images = {**additions.images, **voc.images}
    problems: list[Problem] = []
    for stem in stems:
        if stem not in images:
            problems.append(Problem(f"{_IMAGES}/{stem}.jpg is missing in {voc.places}.", stem))
        if stem not in masks:
            where = f"{_MASKS}/{stem}.png is missing in {voc.places}" if stem in own else f"{stem} has no mask of SBD"
            problems.append(Problem(f"{where}.", stem))
    refuse(problems)
    return [ImageSource(stem, ImageWithMask(images[stem], masks[stem])) for stem in stems]
