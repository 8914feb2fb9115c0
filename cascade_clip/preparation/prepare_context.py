"""Preparing PASCAL Context: 59 classes on the images of VOC 2010, from any encoding in which its labels circulate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.dataset_info import DatasetInfo, Part, SourceFile
from cascade_clip.errors import UserError
from cascade_clip.preparation.archive_spool import spool_folder
from cascade_clip.preparation.context_annotations import read_annotations
from cascade_clip.preparation.context_class_order import recognise_reading
from cascade_clip.preparation.context_classes import ClassOrder, find_listed_order
from cascade_clip.preparation.context_masks import (
    AnnotatedImage,
    ConvertedMasks,
    MatMasks,
    RleLabel,
    load_annotated_image,
)
from cascade_clip.preparation.masks import PairLoader
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.problem_list import problem_list
from cascade_clip.preparation.shards import Loader, Sample
from cascade_clip.preparation.source_files import EntryPair, describe_archive, describe_archives, lines_of
from cascade_clip.preparation.source_tree import Entry, SourceTree
from cascade_clip.progress import Progress

# Published numbers of images (ECOSYSTEM section 3).
_COUNTS: Mapping[Part, int] = {"train": 4_998, "val": 5_105}

_YEAR = "VOC2010"
_JSON = "trainval_merged.json"
_MAT = "trainval"
# mmsegmentation's conversion, and the official masks of the 59 classes.
_MASKS = ("SegmentationClassContext", "59_context_labels")
_VOC_MASKS = "SegmentationClass"
_IMAGES = "JPEGImages"
# Lists made for Context, and those of VOC 2010, whose split Context keeps: all of its 10,103 images have labels.
_CONTEXT_LISTS, _VOC_LISTS = "ImageSets/SegmentationContext", "ImageSets/Main"

_SPOOLED = (_JSON, _MAT, *_MASKS, _VOC_MASKS, _IMAGES, _CONTEXT_LISTS, _VOC_LISTS)


def prepare_context(
    output: Path,
    *,
    source: Path,
    annotations: Path | None = None,
    class_order: ClassOrder | None = None,
    subset: int | None = None,
    name: str = "context",
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> DatasetInfo:
    """Prepare PASCAL Context from VOC 2010 and its labels, packed or unpacked.

    Labels are taken from the first of these that is there: `trainval_merged.json` (run lengths of the 459 classes;
    where annotations overlap, the later one covers the earlier); `trainval/*.mat` (the 459 classes, trainval.tar.gz);
    `SegmentationClassContext/*.png` or `59_context_labels/*.png` (converted masks of the 59). The 59 classes become
    0..58 in the alphabetical order of the split `context`, and everything else 255. How converted masks number the
    classes is recognised by evidence, see `recognise_reading`; masks in the other order are converted.

    The split is the JSON's own (`phase`); else `ImageSets/SegmentationContext/{train,val}.txt`; else VOC 2010's
    `ImageSets/Main/{train,val}.txt`, which is the same.

    Args:
        output: Folder of the prepared dataset.
        source: `VOCtrainval_03-May-2010.tar`, the folder `VOC2010`, or a folder above either.
        annotations: The labels, where they do not lie in `source`: one of the above, packed or not, or a folder above
            it; the labels are then looked for only here. A .json file of any name, and a folder that holds .mat or .png
            files of any name, will do.
        class_order: How converted masks number the classes, where nothing tells.
        subset: Take only so many images of each part, and do not compare counts.
        name: Name of the dataset.
        workers: Processes.
        overwrite: Replace what is in `output`.
        progress: Called with (images done, images in all, file).

    Returns:
        What `dataset.json` says; among its options are the kind of labels, how converted masks were read and what told
        so, where the split came from, and how many images were taken.

    Raises:
        UserError: Images, labels or lists are missing, counts differ from the published ones, converted masks do not
            tell how they number the classes, or a file is broken; nothing is written.
    """
    spool = spool_folder(output)
    with ExitStack() as opened:
        tree = opened.enter_context(SourceTree.open([source], spool=spool, spooled=_SPOOLED))
        label_tree = tree
        if annotations:
            label_tree = opened.enter_context(SourceTree.open([annotations], spool=spool, spooled=_SPOOLED))
        voc = _find_voc(tree)
        labels = _find_labels(label_tree, voc, annotations)
        load, how = _how_to_read(labels, voc, label_tree, class_order)
        split = labels.split or _listed_split([label_tree, tree], voc)
        if subset is None:
            _check_counts(split)
        parts = {part: _samples(stems[:subset], voc, labels) for part, stems in split.ids.items()}
        counts = {f"{part}_images": len(samples) for part, samples in parts.items()}
        classes = get_split("context")
        return write_prepared(
            output,
            name=name,
            classes=classes.class_names,
            colours=classes.colours,
            parts=parts,
            load=load,
            options={"from": "context", "split": split.where, "subset": subset, **how, **counts},
            sources=_describe(labels, split, voc),
            workers=workers,
            overwrite=overwrite,
            progress=progress,
        )


@dataclass(frozen=True)
class _Voc:
    """What was found of VOC 2010 itself."""

    places: str
    folder: str
    images: dict[str, Entry]
    masks: dict[str, Entry]


@dataclass(frozen=True)
class _Split:
    """Which images are for what, sorted."""

    where: str
    ids: dict[Part, list[str]]
    files: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class _Labels:
    """The labels by image."""

    kind: Literal["json", "mat", "png"]
    where: str
    of: Mapping[str, Entry | RleLabel]
    split: _Split | None = None
    """The labels' own."""


def _find_voc(tree: SourceTree) -> _Voc:
    # A year's folder beside others is known by its name; a folder that was renamed must be the only one.
    images = tree.folder(f"{_YEAR}/{_IMAGES}", (".jpg",)) or tree.folder(_IMAGES, (".jpg",))
    if not images:
        raise UserError(
            f"VOC 2010 was not found in {tree.places}: there is no folder {_IMAGES} with .jpg files. "
            "Give VOCtrainval_03-May-2010.tar, the folder it lies in, or the unpacked VOCdevkit."
        )
    folder = next(iter(images.values())).place.parents[1].name
    return _Voc(tree.places, folder, images, tree.folder(f"{folder}/{_VOC_MASKS}", (".png",)))


def _find_labels(tree: SourceTree, voc: _Voc, annotations: Path | None) -> _Labels:
    file = tree.file(annotations.name if annotations and annotations.suffix.lower() == ".json" else _JSON)
    if file:
        parts = read_annotations(file)
        split = _Split(f"phase in {file.name}", {part: list(labels) for part, labels in parts.items()}, (file,))
        return _Labels("json", str(file), {**parts["train"], **parts["val"]}, split)
    # In a place that was named for the labels any folder will do that is the only one of its kind.
    anywhere = ("",) if annotations else ()
    folders_of: dict[Literal["mat", "png"], tuple[str, ...]] = {"mat": (_MAT, *anywhere), "png": (*_MASKS, *anywhere)}
    for kind, folders in folders_of.items():
        for folder in folders:
            masks = tree.folder(folder, (f".{kind}",))
            if masks and masks != voc.masks:
                return _Labels(kind, str(next(iter(masks.values()))).rpartition("/")[0], masks)
    raise UserError(
        f"The labels of PASCAL Context were not found in {tree.places}: there is neither {_JSON}, nor a folder {_MAT} "
        f"with .mat files (trainval.tar.gz), nor a folder {' or '.join(_MASKS)} with .png files. "
        "Give the place of one of these with --annotations."
    )


def _how_to_read(
    labels: _Labels, voc: _Voc, tree: SourceTree, class_order: ClassOrder | None
) -> tuple[Loader, dict[str, str | int]]:
    """The loader of the labels, and what `dataset.json` says of them."""
    if labels.kind == "png":
        masks = {stem: mask for stem, mask in labels.of.items() if isinstance(mask, Entry)}
        listed = find_listed_order(masks, tree)
        found = recognise_reading(masks, voc.masks, listed=listed, given=class_order, where=labels.where)
        return PairLoader(ConvertedMasks(found.reading)), {
            "labels": "png",
            "class_order": found.reading.order,
            "first_index": found.reading.first_index,
            "class_order_told_by": found.told_by,
        }
    if class_order:
        raise UserError(
            f"--class-order {class_order} says how converted masks number the classes, but the labels found are "
            f"{labels.where}, which needs no such word. Leave it out, or name the folder of the masks by --annotations."
        )
    return load_annotated_image if labels.kind == "json" else PairLoader(MatMasks()), {"labels": labels.kind}


def _listed_split(trees: Sequence[SourceTree], voc: _Voc) -> _Split:
    for folder in (_CONTEXT_LISTS, f"{voc.folder}/{_VOC_LISTS}"):
        found = {
            part: next(filter(None, (tree.file(f"{folder}/{part}.txt") for tree in trees)), None) for part in _COUNTS
        }
        files = tuple(file for file in found.values() if file)
        if len(files) == len(found):
            ids = {part: _read_ids(file) for part, file in zip(found, files, strict=True)}
            both = sorted(set(ids["train"]) & set(ids["val"]))
            if both:
                raise problem_list([f"{files[0]} and {files[1]} both name the image {stem}." for stem in both])
            return _Split(folder, ids, files)
    raise UserError(
        f"The split of PASCAL Context was not found in {voc.places}: train.txt and val.txt lie neither in "
        f"{_CONTEXT_LISTS} nor in {voc.folder}/{_VOC_LISTS}, where the official archive has them."
    )


def _read_ids(file: Entry) -> list[str]:
    return sorted(line for line in lines_of(file, "list of images") if line)


def _check_counts(split: _Split) -> None:
    train, val = (len(split.ids[part]) for part in _COUNTS)
    if (train, val) != tuple(_COUNTS.values()):
        raise UserError(
            f"{split.where} gives {train:,} training and {val:,} validation images; published are "
            f"{_COUNTS['train']:,} and {_COUNTS['val']:,}. (A validation list of 5,104 circulates; scores on it are "
            "not quite those of the published protocol.) Complete it, or give --subset N to take N images of each."
        )


def _samples(stems: Sequence[str], voc: _Voc, labels: _Labels) -> list[Sample]:
    missing = [f"{voc.places}: {_IMAGES}/{stem}.jpg is missing." for stem in stems if stem not in voc.images]
    missing += [f"{labels.where} has no label of the image {stem}." for stem in stems if stem not in labels.of]
    if missing:
        raise problem_list(missing)
    pairs = ((stem, voc.images[stem], labels.of[stem]) for stem in stems)
    return [
        Sample(stem, EntryPair(image, label) if isinstance(label, Entry) else AnnotatedImage(image, label))
        for stem, image, label in pairs
    ]


def _describe(labels: _Labels, split: _Split, voc: _Voc) -> list[SourceFile]:
    """The lists or the annotation that the dataset was made from, and the archives that anything of it lies in."""
    masks = [mask for mask in labels.of.values() if isinstance(mask, Entry)]
    archives = describe_archives([*voc.images.values(), *masks, *split.files])
    lying = [file for file in split.files if file.member is None]
    return [*(describe_archive(file.container) for file in lying), *archives]
