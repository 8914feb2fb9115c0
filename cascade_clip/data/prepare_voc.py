"""Preparing PASCAL VOC 2012: 20 classes, background and borders ignored, with or without the SBD additions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.dataset_info import DatasetInfo, Part
from cascade_clip.data.images import decode_label
from cascade_clip.data.masks import IndexMasks, PairLoader
from cascade_clip.data.prepared_writer import Progress, write_prepared
from cascade_clip.data.problem_list import problem_list
from cascade_clip.data.shards import Sample
from cascade_clip.data.source_files import FilePair, describe_file, read_lines
from cascade_clip.errors import UserError

# Published numbers of images; the last is the list that the literature trains on.
_TRAIN, _VAL, _TRAIN_WITH_SBD = 1464, 1449, 10582

_LISTS = Path("ImageSets", "Segmentation")


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
    """Prepare VOC 2012 from its unpacked archive.

    The training list is VOC's own; with the SBD additions it is (VOC train + SBD) minus VOC val, sorted. Where both
    have a mask, VOC's is taken. Stored 0 (background) and 255 (border) become 255, 1..20 become 0..19 (SPEC section 1).

    Args:
        output: Folder of the prepared dataset.
        source: The folder VOC2012, or one or two folders above it.
        sbd: Folder of the SBD additions: PNG masks (SegmentationClassAug) or SBD's own .mat files (dataset/cls), or a
            folder above. Unset: `SegmentationClassAug` beside VOC's masks, if it is there.
        subset: Take only so many images of each part, and do not compare counts.
        name: Name of the dataset.
        workers: Processes.
        overwrite: Replace what is in `output`.
        progress: Called with (images done, images in all, file).

    Returns:
        What `dataset.json` says.

    Raises:
        UserError: Folders, lists or files are missing, counts differ from the published ones, or a file is broken;
            every problem with its file, and nothing is written.
    """
    devkit = _find_devkit(source)
    own = {part: _read_list(devkit, part) for part in ("train", "val")}
    additions = _find_additions(sbd, devkit)
    masks = {stem: path for stem, path in additions.items() if stem not in set(own["val"])}
    masks |= {stem: devkit / "SegmentationClass" / f"{stem}.png" for stem in own["train"] + own["val"]}
    ids: dict[Part, list[str]] = {"train": sorted(masks.keys() - set(own["val"])), "val": own["val"]}
    if subset is None:
        _check_counts(devkit, len(ids["train"]), len(ids["val"]), with_sbd=bool(additions))
    classes = get_split("voc")
    return write_prepared(
        output,
        name=name,
        classes=classes.class_names,
        colours=classes.colours,
        parts={part: _samples(devkit, stems[:subset], masks) for part, stems in ids.items()},
        load=PairLoader(VocMasks(len(classes.classes), first_index=1, ignore=frozenset({0}))),
        options={"from": "voc", "sbd": bool(additions), "subset": subset},
        sources=[describe_file(devkit / _LISTS / f"{part}.txt") for part in ("train", "val")],
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )


class VocMasks(IndexMasks):
    """Reads VOC's palette PNGs and SBD's MATLAB files."""

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """Read one mask file; see `ReadMask`."""
        return self.to_labels(_read_mat(path) if path.suffix == ".mat" else decode_label(path), path)


def _read_mat(path: Path) -> NDArray[np.uint8]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError("SBD's .mat files need SciPy: pip install 'cascade-clip[data]'.") from error
    try:
        content = loadmat(path)["GTcls"][0]["Segmentation"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read as a segmentation of SBD ({error}).") from error
    return np.asarray(content, np.uint8)


def _find_devkit(source: Path) -> Path:
    places = [source, source / "VOC2012", source / "VOCdevkit" / "VOC2012"]
    for place in places:
        if (place / _LISTS).is_dir():
            return place
    raise UserError(
        f"VOC 2012 was not found in {source}: there is no {_LISTS} in {', '.join(map(str, places))}. "
        "Unpack VOCtrainval_11-May-2012.tar and give the folder VOCdevkit."
    )


def _read_list(devkit: Path, part: str) -> list[str]:
    return [line for line in read_lines(devkit / _LISTS / f"{part}.txt", "list of images") if line]


def _find_additions(sbd: Path | None, devkit: Path) -> dict[str, Path]:
    """Masks of the SBD additions by image; empty where there are none and none were asked for."""
    if sbd is None:
        places = [devkit / "SegmentationClassAug"]
    else:
        nested = ("SegmentationClassAug", "cls", "dataset/cls", "benchmark_RELEASE/dataset/cls")
        places = [sbd, *(sbd / folder for folder in nested)]
    for place in places:
        found = sorted([*place.glob("*.png"), *place.glob("*.mat")])
        if found:
            return {path.stem: path for path in found}
    if sbd is not None:
        raise UserError(
            f"The SBD additions were not found: no .png or .mat file lies in {', '.join(map(str, places))}."
        )
    return {}


def _check_counts(devkit: Path, train: int, val: int, *, with_sbd: bool) -> None:
    expected = _TRAIN_WITH_SBD if with_sbd else _TRAIN
    if (train, val) != (expected, _VAL):
        raise UserError(
            f"{devkit} gives {train} training and {val} validation images; published are {expected} and {_VAL}. "
            "Complete it, or give --subset N to take N images of each."
        )


def _samples(devkit: Path, stems: list[str], masks: dict[str, Path]) -> list[Sample]:
    images = {stem: devkit / "JPEGImages" / f"{stem}.jpg" for stem in stems}
    missing = [path for stem in stems for path in (images[stem], masks[stem]) if not path.is_file()]
    if missing:
        raise problem_list([f"{path} is missing." for path in missing])
    return [Sample(stem, FilePair.of(images[stem], masks[stem])) for stem in stems]
