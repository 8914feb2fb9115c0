"""Preparing own images with masks: which mask belongs to which image, and which pairs are for training."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Unpack

import numpy as np

from cascade_clip.config.class_names import read_class_names
from cascade_clip.data.class_list_file import Colour, class_name_problems
from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.images import IMAGE_SUFFIXES
from cascade_clip.errors import UserError, closest, counted, readable
from cascade_clip.files import composed
from cascade_clip.preparation.masks import (
    ImageWithMask,
    IndexMasks,
    MaskLoader,
    check_formats,
    colours_in_order,
    mask_reader,
    options_of_masks,
    review_classes,
)
from cascade_clip.preparation.prepared_writer import WriteOptions, write_prepared
from cascade_clip.preparation.problems import Problem, refuse
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.preparation.source_files import describe_file, files_below, read_lines
from cascade_clip.preparation.source_tree import Entry

log = logging.getLogger(__name__)

# What programs append to the stem of a mask, or of the image it belongs to.
_ROLE = re.compile(
    r"([_.-](mask|masks|gt|gtFine|label|labels|labelIds|labelTrainIds|seg|segmentation|annotation|L|image|img|leftImg8bit))+$"
)


_PART_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def prepare_folder(
    output: Path,
    *,
    name: str,
    images: Path,
    masks: Path,
    classes: Sequence[str],
    colours: Mapping[str, Colour] | None = None,
    ignore: Sequence[str] = (),
    first_index: int = 0,
    mask_values: Sequence[int] | None = None,
    train_list: Path | None = None,
    val_list: Path | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    **writing: Unpack[WriteOptions],
) -> DatasetInfo:
    """Prepare a folder of images and a folder of masks.

    Args:
        images: Folder of images, sub-folders included.
        masks: Folder of masks, matched by name (see `pair_files`) and turned as their images are (see `fit_label`).
        classes: Class names in label order, 1 to 255.
        colours: RGB of each class where the masks are in colours; None: masks hold indices.
        ignore: Mask values ("0") that mean no class; with `colours`, colours ("#000000"). 255 is always ignored in
            index masks.
        first_index: Value of the first class in index masks.
        mask_values: Value of each class in index masks, as 0 and 255; None: they count up from `first_index`.
        train_list: File with the ids for training (see `choose_parts`).
        val_list: File with the ids for validation.
        val_fraction: Share drawn for validation where there is no list, 0 to below 1.
        seed: Seed of that draw.

    Other arguments, result and errors are those of `prepare_dataset.prepare`.
    """
    problems = class_name_problems(classes)
    if problems:
        raise UserError("\n".join(problems))
    pairs = pair_files(images, masks)
    chosen = choose_parts(list(pairs), train_list=train_list, val_list=val_list, val_fraction=val_fraction, seed=seed)
    lists = [path for path in (train_list, val_list) if path]
    reader = mask_reader(classes, colours, ignore, first_index, mask_values)
    if isinstance(reader, IndexMasks):
        check_formats([pair.mask for pair in pairs.values()])
    drawn: dict[str, float | int] = {} if lists else {"val_fraction": val_fraction, "seed": seed}
    return write_prepared(
        output,
        name=name,
        classes=classes,
        colours=colours_in_order(classes, colours) if colours else None,
        parts={part: [ImageSource(image_id, pairs[image_id]) for image_id in ids] for part, ids in chosen.items()},
        load=MaskLoader(reader),
        options={"from": "folder", **options_of_masks(first_index, mask_values, ignore), **drawn},
        sources=[describe_file(path) for path in lists],
        review=partial(review_classes, masks=reader if isinstance(reader, IndexMasks) else None),
        inputs=[images, masks, *lists],
        **writing,
    )


def prepare_source_folder(output: Path, *, source: Path, **options: Any) -> DatasetInfo:
    """Prepare a folder that holds the folders `images` and `masks` and the file `classes.txt`, one class a line.

    Options are arguments of `prepare_folder`, in place of what is in the folder; `name` is the output's by default.
    """
    defaults: dict[str, Any] = {
        "name": readable(output.absolute().name),
        "images": source / "images",
        "masks": source / "masks",
    }
    if "classes" not in options:
        defaults["classes"] = read_class_names(source / "classes.txt")
    return prepare_folder(output, **defaults | options)


def pair_files(images: Path, masks: Path) -> dict[str, ImageWithMask]:
    """Match the files of two folders, sub-folders included: pairs by id, sorted.

    Names are compared by path without ending, or by file name alone, each with and without an appended role such as
    "_mask"; of these four ways the one that matches most files is taken. An id is the image's path inside its folder
    without ending. Images in a folder `test` beside one named `train` need no mask: those without are left out, with a
    warning. Raises UserError where a folder is not there or holds no image, or a mask is missing, left over or
    ambiguous (file names).
    """
    image_files, mask_files = _image_files(images, "images"), _image_files(masks, "masks")
    if images.resolve() == masks.resolve():
        raise UserError(f"Images and masks were both looked for in {images}; they must be in different folders.")
    key = max(_KEYS, key=lambda way: _matches(way, image_files, mask_files))
    masks_of = _by_key(key, mask_files)
    if any(_part_folder(str(path)) == "train" for path in image_files):
        tests = {path for path in image_files if _part_folder(str(path)) == "test" and key(path) not in masks_of}
        if tests:
            log.warning("Left out of the folder for tests: %s without a mask.", counted(len(tests), "image"))
        image_files = [path for path in image_files if path not in tests]
    images_of = _by_key(key, image_files)
    problems = [
        Problem(
            f"{' and '.join(map(str, same))} in {folder} have the same name; only the ending differs, or the folder.",
            str(same[0]),
            (" and ".join(map(str, same)),),
        )
        for folder, files in ((images, images_of), (masks, masks_of))
        for same in files.values()
        if len(same) > 1
    ]
    problems += [
        Problem(f"{mine / path} has no {what} in {theirs}.", str(path))
        for mine, files, theirs, partners, what in (
            (images, image_files, masks, masks_of, "mask"),
            (masks, mask_files, images, images_of, "image"),
        )
        for path in files
        if key(path) not in partners
    ]
    refuse(problems)
    return {
        readable(_with_folders(path)): ImageWithMask(Entry.of(images / path), Entry.of(masks / masks_of[key(path)][0]))
        for path in image_files
    }


def _image_files(folder: Path, what: str) -> list[PurePosixPath]:
    if not folder.is_dir():
        raise UserError(f"The folder of {what}, {folder}, is not there.")
    paths = sorted(
        PurePosixPath(path.relative_to(folder).as_posix())
        for path in files_below(folder)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()
    )
    if not paths:
        raise UserError(f"The folder of {what}, {folder}, holds no image file.")
    return paths


Key = Callable[[PurePosixPath], str]


def _with_folders(path: PurePosixPath) -> str:
    return composed(str(path.with_suffix("")))


# Ways to compare names: with and without folders, each with and without an appended role.
_KEYS: tuple[Key, ...] = (
    _with_folders,
    lambda path: _ROLE.sub("", _with_folders(path)),
    lambda path: PurePosixPath(_with_folders(path)).name,
    lambda path: _ROLE.sub("", PurePosixPath(_with_folders(path)).name),
)


def _matches(key: Key, image_files: Iterable[PurePosixPath], mask_files: Iterable[PurePosixPath]) -> int:
    """Number of keys that exactly one image and one mask have."""
    images, masks = Counter(map(key, image_files)), Counter(map(key, mask_files))
    return sum(images[found] == masks[found] == 1 for found in images)


def _by_key(key: Key, paths: Sequence[PurePosixPath]) -> dict[str, list[PurePosixPath]]:
    found: dict[str, list[PurePosixPath]] = {}
    for path in paths:
        found.setdefault(key(path), []).append(path)
    return found


def choose_parts(
    ids: Sequence[str], *, train_list: Path | None = None, val_list: Path | None = None, val_fraction: float, seed: int
) -> dict[Part, list[str]]:
    """Divide images into training and validation: ids of "train" and "val", of a list in its order.

    Args:
        ids: All ids, sorted.
        train_list: File with the training ids, one a line, with or without folder and ending; None: all that `val_list`
            does not name.
        val_list: The same for validation.
        val_fraction: Share, 0 to below 1, drawn for validation where neither list is given and there are no folders
            named `train` and `val`; at least one image of two or more, unless 0. A folder `test` beside them is left
            out, with a warning.
        seed: Seed of the draw.

    Raises:
        UserError: A list names no ids, unknown ones, an id twice, or one of the other list; the share is impossible.
    """
    if not 0 <= val_fraction < 1:
        raise UserError(f"The share of validation images is {val_fraction}; it must be at least 0 and below 1.")
    if train_list is None and val_list is None:
        by_folder = _parts_by_folder(ids)
        if by_folder["val"]:
            return by_folder
        ids = by_folder["train"]
        count = round(len(ids) * val_fraction)
        if val_fraction > 0 and len(ids) > 1:
            count = min(max(count, 1), len(ids) - 1)
        drawn = set(np.random.default_rng(seed).permutation(len(ids))[:count].tolist())
        chosen = [name for index, name in enumerate(ids) if index in drawn]
        return {"train": [name for index, name in enumerate(ids) if index not in drawn], "val": chosen}
    problems: list[Problem] = []
    train = _read_ids(train_list, ids, problems) if train_list else None
    val = _read_ids(val_list, ids, problems) if val_list else None
    both = sorted(set(train or ()) & set(val or ()))
    problems += [Problem(f'"{name}" is in both lists, for training and for validation.', name) for name in both]
    refuse(problems)
    listed = {*(train or ()), *(val or ())}
    rest = [name for name in ids if name not in listed]
    if train is None and not rest:
        log.warning("%s names every image: none is left for training, the dataset can only be evaluated on.", val_list)
    return {"train": rest if train is None else train, "val": rest if val is None else val}


def _part_folder(image: str) -> str:
    """The part that the first folder of an image's path names, as in "train2017": "train", "val", "test" or ""."""
    folder, below, _ = image.partition("/")
    words = re.split(r"[\W\d_]+", folder.lower()) if below else []
    return next((_PART_FOLDERS[word] for word in words if word in _PART_FOLDERS), "")


def _parts_by_folder(ids: Sequence[str]) -> dict[Part, list[str]]:
    """The parts that folders named `train`, `val` and `test` say; no "val" where that is still to be drawn."""
    found: dict[str, list[str]] = {"train": [], "val": [], "test": [], "": []}
    for name in ids:
        found[_part_folder(name)].append(name)
    if not found["train"] or not (found["val"] or found["test"]):
        return {"train": list(ids), "val": []}
    if found[""]:
        raise UserError(
            f"There are folders for training and validation or test, and {counted(len(found['']), 'image')} in none of"
            f' them, as "{found[""][0]}": move them there or away, or say which are which with --train-list and'
            " --val-list."
        )
    if found["test"]:
        log.warning("Left out: %s of the folder for tests.", counted(len(found["test"]), "image"))
    return {"train": found["train"], "val": found["val"]}


def _read_ids(path: Path, ids: Sequence[str], problems: list[Problem]) -> list[str]:
    """Read a list; what is wrong with it is added to the problems."""
    # Ids by themselves, and by file name alone where that is unique.
    names = Counter(composed(name.rpartition("/")[2]) for name in ids)
    every = {composed(name): name for name in ids}
    known = {short: every[name] for name in every if names[short := name.rpartition("/")[2]] == 1} | every
    found = dict[str, None]()
    lines = read_lines(path, "list of images")
    if not lines:
        problems.append(Problem(f"{path}: the list is empty; write the names of images into it, one a line.", ""))
    for line in lines:
        entry = PurePosixPath(composed(line.replace("\\", "/")))
        bare = str(entry.with_suffix("")) if entry.suffix.lower() in IMAGE_SUFFIXES else str(entry)
        # What stands before an image's own folders means nothing; a wrong folder must not find an image in another.
        parts = bare.split("/")
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        name = known.get(bare) or next((every[end] for end in ends if end in every), None)
        if name is None:
            near = closest(bare, known)
            problems.append(Problem(f'{path}: "{line}" is none of the images.{near}', line, (f'"{line}"', near)))
        elif name in found:
            problems.append(Problem(f'{path}: "{line}" is listed more than once.', line))
        else:
            found[name] = None
    return list(found)
