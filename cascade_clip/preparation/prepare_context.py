"""Preparing PASCAL Context: its 59 classes, or 60 with background, from any encoding in which the labels circulate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, Unpack

from cascade_clip.data.catalogue import benchmark, get_split
from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.errors import UserError
from cascade_clip.preparation.archives import spool_folder
from cascade_clip.preparation.context_labels import (
    RUN_LENGTHS,
    ClassOrder,
    RleLabel,
    behind_background,
    choose_reading,
    converted_masks,
    paint_rle_label,
    read_annotations,
    read_mat_label,
)
from cascade_clip.preparation.masks import MATLAB, ImageWithMask, MaskLoader, import_extra
from cascade_clip.preparation.paired_files import PARTS
from cascade_clip.preparation.prepared_writer import WriteOptions, write_prepared
from cascade_clip.preparation.problems import Problem, refuse
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.preparation.source_files import check_counts, describe_archives, describe_file, read_lines
from cascade_clip.preparation.source_tree import Entry, SourceTree

_COUNTS = benchmark("context").counts

_OTHER_LIST = " (A validation list of 5,104 circulates; scores on it are not quite those of the published protocol.)"

_YEAR = "VOC2010"
_JSON = "trainval_merged.json"
_MAT = "trainval"
# Folders of mmsegmentation's conversion and of the official masks of the 59 classes, with the order of the classes.
_MASKS: Mapping[str, ClassOrder] = {"SegmentationClassContext": "alphabetical", "59_context_labels": "voc-first"}
_VOC_MASKS = "SegmentationClass"
_IMAGES = "JPEGImages"
# Lists made for Context, and those of VOC 2010, whose split Context keeps: all of its 10,103 images have labels.
_CONTEXT_LISTS, _VOC_LISTS = "ImageSets/SegmentationContext", "ImageSets/Main"


def prepare_context(
    output: Path,
    *,
    source: Path,
    annotations: Path | None = None,
    class_order: ClassOrder | None = None,
    subset: int | None = None,
    background: bool = False,
    name: str | None = None,
    **writing: Unpack[WriteOptions],
) -> DatasetInfo:
    """Prepare PASCAL Context from VOC 2010 and its labels, packed or unpacked.

    Labels are taken from the first of these that is there: `trainval_merged.json` (run lengths of the 459 classes;
    where annotations overlap, the later one wins); `trainval/*.mat` (the 459 classes, trainval.tar.gz);
    `SegmentationClassContext/*.png` or `59_context_labels/*.png` (converted masks of the 59). The 59 classes become
    0..58 in the alphabetical order of the split `context`, and everything else 255; with `background` they become
    1..59, and everything else 0 (only 255 in converted masks that count from 1 stays ignored). The split is the JSON's
    own (`phase`); else `ImageSets/SegmentationContext/{train,val}.txt`; else VOC 2010's
    `ImageSets/Main/{train,val}.txt`, the same.

    Args:
        source: `VOCtrainval_03-May-2010.tar`, the folder `VOC2010`, or a folder above either.
        annotations: The labels, if not in `source`, which is not searched for them then: one of the above, packed or
            not, or a folder above it. Here a .json file, and a folder of .mat or .png files, may have any name.
        class_order: How converted masks number the classes (see `choose_reading`); None: voc-first in a folder
            `59_context_labels`, alphabetical elsewhere.
        background: Make background class 0, for the split `context-background`.

    Other arguments, result and errors are those of `prepare_dataset.prepare`. The options in `dataset.json` name the
    kind of labels, how converted masks were read and what confirmed it, the origin of the split, and the numbers of
    images.
    """
    with SourceTree([source], spool=spool_folder(output)) as tree:
        voc = _find_voc(tree)
        label_tree = SourceTree([annotations], spool=spool_folder(output)) if annotations else tree
        labels = _find_labels(label_tree, voc, annotations)
        load, how = _how_to_read(labels, voc, class_order, background)
        split = labels.split or _listed_split([label_tree, tree], voc)
        if subset is None:
            check_counts(split.where, {part: len(stems) for part, stems in split.ids.items()}, _COUNTS, _OTHER_LIST)
        parts = {part: _image_sources(stems[:subset], voc, labels) for part, stems in split.ids.items()}
        counts = {f"{part}_images": len(images) for part, images in parts.items()}
        classes = get_split("context-background" if background else "context")
        masks = [mask for mask in labels.of.values() if isinstance(mask, Entry)]
        archives = describe_archives([*voc.images.values(), *masks, *split.files])
        return write_prepared(
            output,
            name=name or classes.dataset,
            classes=classes.class_names,
            colours=classes.colours,
            parts=parts,
            load=load,
            options={"from": classes.dataset, "split": split.where, "subset": subset, **how, **counts},
            inputs=[source, *([annotations] if annotations else [])],
            sources=[*(describe_file(file) for file in split.files if file.member is None), *archives],
            **writing,
        )


@dataclass(frozen=True)
class _Voc2010:
    places: str
    folder: str
    images: dict[str, Entry]
    masks: dict[str, Entry]


@dataclass(frozen=True)
class _Split:
    where: str
    ids: dict[Part, list[str]]
    """Images of each part, sorted."""
    files: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class _ContextLabels:
    kind: Literal["json", "mat", "png"]
    where: str
    of: Mapping[str, Entry | RleLabel]
    """By image."""
    split: _Split | None = None
    """The labels' own."""


def _find_voc(tree: SourceTree) -> _Voc2010:
    # A year's folder beside others is known by its name; a folder that was renamed must be the only one.
    images = tree.folder(f"{_YEAR}/{_IMAGES}", (".jpg",)) or tree.folder(_IMAGES, (".jpg",))
    if not images:
        raise UserError(
            f"VOC 2010 was not found in {tree.places}: there is no folder {_IMAGES} with .jpg files. "
            "Give VOCtrainval_03-May-2010.tar, its folder, or the unpacked VOCdevkit."
        )
    folder = next(iter(images.values())).place.parents[1].name
    return _Voc2010(tree.places, folder, images, tree.folder(f"{folder}/{_VOC_MASKS}", (".png",)))


def _find_labels(tree: SourceTree, voc: _Voc2010, annotations: Path | None) -> _ContextLabels:
    file = tree.file(annotations.name if annotations and annotations.suffix.lower() == ".json" else _JSON)
    if file:
        parts = read_annotations(file)
        split = _Split(f"phase in {file.name}", {part: list(labels) for part, labels in parts.items()}, (file,))
        return _ContextLabels("json", str(file), {**parts["train"], **parts["val"]}, split)
    # In a place that was named for the labels any folder will do that is the only one of its kind.
    anywhere = ("",) if annotations else ()
    folders_of: dict[Literal["mat", "png"], tuple[str, ...]] = {"mat": (_MAT, *anywhere), "png": (*_MASKS, *anywhere)}
    for kind, folders in folders_of.items():
        for folder in folders:
            masks = tree.folder(folder, (f".{kind}",))
            if masks and masks != voc.masks:
                return _ContextLabels(kind, str(next(iter(masks.values()))).rpartition("/")[0], masks)
    raise UserError(
        f"The labels of PASCAL Context were not found in {tree.places}: there is neither {_JSON}, nor a folder {_MAT} "
        f"with .mat files (trainval.tar.gz), nor a folder {' or '.join(_MASKS)} with .png files. "
        "Give the place of one of these with --annotations."
    )


def _how_to_read(
    labels: _ContextLabels, voc: _Voc2010, class_order: ClassOrder | None, background: bool
) -> tuple[MaskLoader, dict[str, str | int]]:
    """The loader of the labels, and the options that describe them in `dataset.json`."""
    if labels.kind == "png":
        masks = {stem: mask for stem, mask in labels.of.items() if isinstance(mask, Entry)}
        assumed = _MASKS.get(PurePosixPath(labels.where).name, "alphabetical")
        reading, confirmed_by = choose_reading(masks, voc.masks, given=class_order, assumed=assumed, where=labels.where)
        return MaskLoader(converted_masks(reading, background)), {
            "labels": "png",
            "class_order": reading.order,
            "first_index": reading.first_index,
            "class_order_told_by": confirmed_by,
        }
    if class_order:
        raise UserError(
            f"--class-order {class_order} says how converted masks number the classes, but the labels found are "
            f"{labels.where}, which name them. Leave it out, or give the folder of the masks with --annotations."
        )
    import_extra(RUN_LENGTHS if labels.kind == "json" else MATLAB, f"The labels in {labels.where}")
    read = paint_rle_label if labels.kind == "json" else read_mat_label
    return MaskLoader(partial(behind_background, read) if background else read), {"labels": labels.kind}


def _listed_split(trees: Sequence[SourceTree], voc: _Voc2010) -> _Split:
    for folder in (_CONTEXT_LISTS, f"{voc.folder}/{_VOC_LISTS}"):
        found = {
            part: next(filter(None, (tree.file(f"{folder}/{part}.txt") for tree in trees)), None) for part in PARTS
        }
        files = tuple(file for file in found.values() if file)
        if len(files) == len(found):
            ids = {part: sorted(read_lines(file, "list of images")) for part, file in zip(found, files, strict=True)}
            both = sorted(set(ids["train"]) & set(ids["val"]))
            refuse([Problem(f"{files[0]} and {files[1]} both name the image {stem}.", stem) for stem in both])
            return _Split(folder, ids, files)
    raise UserError(
        f"The split of PASCAL Context was not found in {voc.places}: train.txt and val.txt are neither in "
        f"{_CONTEXT_LISTS} nor in {voc.folder}/{_VOC_LISTS}, where the official archive has them."
    )


def _image_sources(stems: Sequence[str], voc: _Voc2010, labels: _ContextLabels) -> list[ImageSource]:
    missing = [
        Problem(f"{voc.places}: {_IMAGES}/{stem}.jpg is missing.", stem) for stem in stems if stem not in voc.images
    ]
    missing += [
        Problem(f"{labels.where} has no label of the image {stem}.", stem) for stem in stems if stem not in labels.of
    ]
    refuse(missing, images=len(stems))
    return [ImageSource(stem, ImageWithMask(voc.images[stem], labels.of[stem])) for stem in stems]
