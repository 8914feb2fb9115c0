"""Finding which mask belongs to which image, and which pairs are for training and which for validation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from cascade_clip.data.dataset_info import Part
from cascade_clip.data.images import IMAGE_SUFFIXES
from cascade_clip.errors import UserError, closest
from cascade_clip.preparation.problem_list import problem_list
from cascade_clip.preparation.source_files import EntryPair, read_lines
from cascade_clip.preparation.source_tree import Entry

# What programs append to the stem of a mask, or of the image it belongs to.
_ROLE = re.compile(
    r"([_.-](mask|masks|gt|gtFine|label|labels|labelIds|labelTrainIds|seg|segmentation|annotation|L|image|img|leftImg8bit))+$"
)


def pair_files(images: Path, masks: Path) -> dict[str, EntryPair]:
    """Match the files of two folders, sub-folders included.

    Names are compared by path without ending, or by file name alone, each with and without an appended role such as
    "_mask"; of these four ways the one that matches most files is taken.

    Args:
        images: Folder of images.
        masks: Folder of masks.

    Returns:
        The pairs by id, sorted; the id is the image's path inside its folder without ending.

    Raises:
        UserError: A folder is not there or holds no image; a mask is missing, left over or ambiguous (file names).
    """
    image_files, mask_files = _image_files(images, "images"), _image_files(masks, "masks")
    if images.resolve() == masks.resolve():
        raise UserError(f"Images and masks were both looked for in {images}; they must lie in different folders.")
    ways = [_with_folders, _with_folders_without_role, _name_only, _name_without_role]
    key = max(ways, key=lambda way: _matches(way, image_files, mask_files))
    mask_of: dict[str, Path] = {}
    problems = _repeated(key, image_files, images) + _repeated(key, mask_files, masks)
    for path in mask_files:
        mask_of.setdefault(key(path), masks / path)
    keys = {key(path) for path in image_files}
    problems += [f"{images / path} has no mask in {masks}." for path in image_files if key(path) not in mask_of]
    problems += [f"{masks / path} has no image in {images}." for path in mask_files if key(path) not in keys]
    if problems:
        raise problem_list(problems)
    return {
        _with_folders(path): EntryPair(Entry.of(images / path), Entry.of(mask_of[key(path)])) for path in image_files
    }


def _image_files(folder: Path, what: str) -> list[PurePosixPath]:
    if not folder.is_dir():
        raise UserError(f"The folder of {what}, {folder}, is not there.")
    paths = sorted(
        PurePosixPath(path.relative_to(folder).as_posix())
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise UserError(f"The folder of {what}, {folder}, holds no image file.")
    return paths


Key = Callable[[PurePosixPath], str]


def _with_folders(path: PurePosixPath) -> str:
    return str(path.with_suffix(""))


def _with_folders_without_role(path: PurePosixPath) -> str:
    return _ROLE.sub("", _with_folders(path))


def _name_only(path: PurePosixPath) -> str:
    return path.stem


def _name_without_role(path: PurePosixPath) -> str:
    return _ROLE.sub("", path.stem)


def _matches(key: Key, image_files: Iterable[PurePosixPath], mask_files: Iterable[PurePosixPath]) -> int:
    """Pairs that a key finds, counting only keys that stand for one image and one mask."""
    images, masks = Counter(map(key, image_files)), Counter(map(key, mask_files))
    return sum(images[found] == masks[found] == 1 for found in images)


def _repeated(key: Key, paths: Sequence[PurePosixPath], folder: Path) -> list[str]:
    by_key: dict[str, list[str]] = {}
    for path in paths:
        by_key.setdefault(key(path), []).append(str(path))
    return [
        f"{' and '.join(same)} in {folder} have the same name; only the ending differs, or the folder."
        for same in by_key.values()
        if len(same) > 1
    ]


def choose_parts(
    ids: Sequence[str], *, train_list: Path | None, val_list: Path | None, val_fraction: float, seed: int
) -> dict[Part, list[str]]:
    """Divide images into training and validation.

    Args:
        ids: All ids, sorted.
        train_list: File with the training ids, one a line, with or without folder and ending; unset: all that
            `val_list` does not name.
        val_list: The same for validation.
        val_fraction: Share of the images drawn for validation where neither list is given; at least one image of two or
            more, unless 0.
        seed: Seed of the draw.

    Returns:
        Ids of "train" and "val": lists keep their order, a draw keeps that of `ids`.

    Raises:
        UserError: A list names unknown ids, an id twice, or one that is in the other list too; the share is impossible.
    """
    if not 0 <= val_fraction < 1:
        raise UserError(f"The share of validation images is {val_fraction}; it must be at least 0 and below 1.")
    if train_list is None and val_list is None:
        return _draw(ids, val_fraction, seed)
    problems: list[str] = []
    listed = {part: _read_ids(path, ids, problems) for part, path in (("train", train_list), ("val", val_list)) if path}
    train, val = listed.get("train"), listed.get("val")
    both = sorted(set(train or ()) & set(val or ()))
    problems += [f'"{name}" is in both lists, for training and for validation.' for name in both]
    if problems:
        raise problem_list(problems)
    rest = [name for name in ids if name not in {*(train or ()), *(val or ())}]
    return {"train": rest if train is None else train, "val": rest if val is None else val}


def _draw(ids: Sequence[str], val_fraction: float, seed: int) -> dict[Part, list[str]]:
    count = round(len(ids) * val_fraction)
    if val_fraction > 0 and len(ids) > 1:
        count = min(max(count, 1), len(ids) - 1)
    chosen = set(np.random.default_rng(seed).permutation(len(ids))[:count].tolist())
    return {
        "train": [name for index, name in enumerate(ids) if index not in chosen],
        "val": [name for index, name in enumerate(ids) if index in chosen],
    }


def _read_ids(path: Path, ids: Sequence[str], problems: list[str]) -> list[str]:
    """Read a list; what is wrong with it is added to the problems."""
    found: dict[str, None] = {}
    known = _spellings(ids)
    # Folders in the list mean nothing for an image without one, but a wrong folder must not find an image in another.
    flat = {name: name for name in ids if "/" not in name}
    for line in read_lines(path, "list of images"):
        if not line:
            continue
        entry = PurePosixPath(line.replace("\\", "/"))
        bare = str(entry.with_suffix("")) if entry.suffix.lower() in IMAGE_SUFFIXES else str(entry)
        name = known.get(bare) or flat.get(bare.rpartition("/")[2])
        if name is None:
            problems.append(f'{path}: "{line}" is none of the images.{closest(bare, known)}')
        elif name in found:
            problems.append(f'{path}: "{line}" stands there more than once.')
        else:
            found[name] = None
    return list(found)


def _spellings(ids: Sequence[str]) -> Mapping[str, str]:
    """Ids by themselves, and by file name alone where that is unique."""
    names = Counter(name.rpartition("/")[2] for name in ids)
    short = {name.rpartition("/")[2]: name for name in ids if names[name.rpartition("/")[2]] == 1}
    return short | {name: name for name in ids}
