"""Miniature official archives in the true raw encodings, one section a dataset."""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco
from scipy.io import savemat
from scipy.sparse import csc_matrix

from cascade_clip.data.catalogue import benchmark

Mask = NDArray[np.uint8]
"""(H, W) uint8 as a raw file stores it."""


def drawn_mask(seed: int, values: Iterable[int], size: tuple[int, int] = (48, 64)) -> Mask:
    """Rectangles of all these values over the first one, at random places; `size` is (height, width)."""
    rng = np.random.default_rng(seed)
    height, width = size
    chosen = list(values)
    mask = np.full(size, chosen[0], np.uint8)
    for value in chosen[1:]:
        top, left = rng.integers(0, height * 3 // 4), rng.integers(0, width * 3 // 4)
        mask[top : top + height // 3, left : left + width // 3] = value
    # No value is lost under a later one.
    mask[0, : len(chosen)] = chosen
    return mask


def set_counts(monkeypatch: pytest.MonkeyPatch, name: str, **counts: int) -> None:
    """Let a benchmark have these published numbers of images."""
    for part, count in counts.items():
        monkeypatch.setitem(benchmark(name).counts, part, count)


def write_jpeg(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    """A JPEG of random colours; `size` is (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_jpeg(size, seed, "RGB"))
    return path


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    """A text file of one entry a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def pack(folder: Path, archive: Path) -> Path:
    """Pack a folder under its own name into a zip, a tar, or a compressed tar, as the archive's ending says."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    files = [folder, *sorted(folder.rglob("*"))]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in files:
                packed.write(path, path.relative_to(folder.parent))
        return archive
    kind = {".tgz": "gz", ".gz": "gz", ".bz2": "bz2", ".xz": "xz"}.get(archive.suffix, "")
    with tarfile.open(archive, f"w:{kind}") as opened:  # type: ignore[call-overload]
        for path in files:
            opened.add(path, path.relative_to(folder.parent), recursive=False)
    return archive


# --- VOC 2012 and SBD -------------------------------------------------------------------------------------------------


def voc_palette() -> list[int]:
    """The 256 colours of VOC's masks: the bits of an index dealt to red, green and blue, highest bits first."""
    palette = []
    for index in range(256):
        for channel in range(3):
            bits = [index >> (3 * step + channel) & 1 for step in range(8)]
            palette.append(sum(bit << (7 - step) for step, bit in enumerate(bits)))
    return palette


def write_palette_png(path: Path, mask: Mask) -> Path:
    """A mask as VOC stores it: a PNG of indices into VOC's palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask, mode="L")
    image.putpalette(voc_palette())
    image.save(path, "PNG")
    return path


def write_voc(
    folder: Path,
    *,
    train: Mapping[str, Mask],
    val: Mapping[str, Mask],
    others: Mapping[str, tuple[int, int]] | None = None,
    year: str = "VOC2012",
) -> Path:
    """The folder VOCdevkit as `VOCtrainval_11-May-2012.tar` unpacks it, from raw masks of each part (255 at borders).

    `others` are sizes of the images that have no mask. Its tar is `pack(write_voc(...), tar)`.
    """
    devkit = folder / "VOCdevkit"
    sizes = {stem: mask.shape for stem, mask in [*train.items(), *val.items()]} | dict(others or {})
    for seed, (stem, size) in enumerate(sizes.items()):
        write_jpeg(devkit / year / "JPEGImages" / f"{stem}.jpg", (size[0], size[1]), seed)
    for stem, mask in [*train.items(), *val.items()]:
        write_palette_png(devkit / year / "SegmentationClass" / f"{stem}.png", mask)
        write_palette_png(devkit / year / "SegmentationObject" / f"{stem}.png", np.zeros_like(mask))
    for task in ("Segmentation", "Main", "Layout"):
        lists = devkit / year / "ImageSets" / task
        write_lines(lists / "train.txt", train)
        write_lines(lists / "val.txt", val)
        write_lines(lists / "trainval.txt", [*train, *val])
    return devkit


def sbd_mat(mask: Mask) -> bytes:
    """A file of SBD's `dataset/cls`: a MATLAB struct with the mask, 20 sparse boundaries and the classes present."""
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = csc_matrix(mask == index + 1)
    present = np.setdiff1d(np.unique(mask), [0, 255]).reshape(-1, 1)
    buffer = io.BytesIO()
    struct = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": present}
    savemat(buffer, {"GTcls": struct}, do_compression=True)
    return buffer.getvalue()


def write_sbd(folder: Path, *, train: Mapping[str, Mask], val: Mapping[str, Mask]) -> Path:
    """The folder benchmark_RELEASE as `benchmark.tgz` unpacks it, with masks of 0..20 and an image for each."""
    release = folder / "benchmark_RELEASE"
    dataset = release / "dataset"
    for seed, (stem, mask) in enumerate([*train.items(), *val.items()]):
        write_jpeg(dataset / "img" / f"{stem}.jpg", (mask.shape[0], mask.shape[1]), 1000 + seed)
        for kind in ("cls", "inst"):
            path = dataset / kind / f"{stem}.mat"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sbd_mat(mask))
    write_lines(dataset / "train.txt", train)
    write_lines(dataset / "val.txt", val)
    write_lines(release / "README", ["Semantic Boundaries Dataset"])
    return release


# --- COCO-Stuff 164K --------------------------------------------------------------------------------------------------

COCO_NEVER_DRAWN = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
COCO_VALUES = [value for value in range(182) if value not in COCO_NEVER_DRAWN]
"""Every value of a class in the published masks, rising; the place in this list is the label."""

COCO_LAYOUTS = {
    "zips": ("{part}2017.zip", "stuffthingmaps_trainval2017.zip", ""),
    "README": ("images", "annotations", ""),
    "stuffthingmaps": (".", "stuffthingmaps", ""),
    "together": (".", ".", ""),
    "mixed": ("{part}2017.zip", "stuffthingmaps", ""),
    "converted": ("images", "annotations", "_labelTrainIds"),
    "converted beside": (".", ".", "_labelTrainIds"),
}
"""Where images and masks lie (a zip or a folder, each with train2017 and val2017 in it), and what masks are called."""


def write_coco(
    folder: Path,
    *,
    train: Mapping[str, Mask],
    val: Mapping[str, Mask],
    layout: str = "zips",
    modes: Mapping[str, str] | None = None,
) -> Path:
    """The official zips, or what they unpack to, in one of `COCO_LAYOUTS`; the converted ones store train ids.

    Masks are given as published (label id minus one, 255 = unlabelled); `modes` are those of the images that are not
    RGB, "L" or "CMYK".
    """
    images, masks, appended = COCO_LAYOUTS[layout]
    for part, given in (("train", train), ("val", val)):
        for seed, (stem, mask) in enumerate(given.items()):
            stored = np.where(mask == 255, 255, np.searchsorted(COCO_VALUES, mask)) if appended else mask
            image = _jpeg(mask.shape, seed, (modes or {}).get(stem, "RGB"))
            _put(folder / images.format(part=part), f"{part}2017/{stem}.jpg", image)
            _put(folder / masks, f"{part}2017/{stem}{appended}.png", _png(stored.astype(np.uint8)))
    return folder


def _jpeg(size: tuple[int, ...], seed: int, mode: str) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _put(place: Path, name: str, content: bytes) -> None:
    """Put a file into a folder, or add it to a zip."""
    path = place if place.suffix == ".zip" else place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix != ".zip":
        path.write_bytes(content)
        return
    with zipfile.ZipFile(place, "a") as archive:
        archive.writestr(name, content)


# --- ADE20K (scene parsing challenge) ---------------------------------------------------------------------------------


def write_ade20k(folder: Path, *, train: Mapping[str, Mask], val: Mapping[str, Mask]) -> Path:
    """The folder ADEChallengeData2016 as its zip unpacks it, from raw masks (0 = no class, 1..150)."""
    release = folder / "ADEChallengeData2016"
    for name, masks in (("training", train), ("validation", val)):
        for seed, (stem, mask) in enumerate(masks.items()):
            write_jpeg(release / "images" / name / f"{stem}.jpg", (mask.shape[0], mask.shape[1]), seed)
            _put(release, f"annotations/{name}/{stem}.png", _png(mask))
    write_lines(release / "objectInfo150.txt", ["Idx\tRatio\tTrain\tVal\tStuff\tName"])
    write_lines(release / "sceneCategories.txt", [f"{stem} street" for stem in [*train, *val]])
    return release


# --- Cityscapes -------------------------------------------------------------------------------------------------------


def write_cityscapes(folder: Path, *, train: Mapping[str, Mask], val: Mapping[str, Mask]) -> list[Path]:
    """The folders leftImg8bit and gtFine as their zips unpack, from masks of ids (0..33) by CITY_000000_000019.

    Each image has the four files of its annotation; the part "test" has one image with an empty annotation.
    """
    images, labels = folder / "leftImg8bit", folder / "gtFine"
    test = {"berlin_000000_000019": np.zeros((8, 16), np.uint8)}
    for part, masks in (("train", train), ("val", val), ("test", test)):
        for seed, (stem, mask) in enumerate(masks.items()):
            city = stem.partition("_")[0]
            pixels = np.random.default_rng(seed).integers(0, 256, (*mask.shape, 3), dtype=np.uint8)
            _put(images, f"{part}/{city}/{stem}_leftImg8bit.png", _png(pixels))
            for kind, content in (
                ("labelIds", mask),
                ("color", pixels),
                ("instanceIds", mask.astype(np.uint16) * 1000),
            ):
                _put(labels, f"{part}/{city}/{stem}_gtFine_{kind}.png", _png(content))
            _put(labels, f"{part}/{city}/{stem}_gtFine_polygons.json", b'{"objects": []}')
    return [images, labels]


# --- PASCAL Context ---------------------------------------------------------------------------------------------------


FullIds = NDArray[np.uint16]
"""(H, W) uint16: ids of the 459 classes, 0 where there is none."""


def write_context_images(
    folder: Path, *, train: Mapping[str, tuple[int, int]], val: Mapping[str, tuple[int, int]], voc: Mapping[str, Mask]
) -> Path:
    """The folder VOCdevkit as `VOCtrainval_03-May-2010.tar` unpacks it; `voc` are VOC's own masks of some images."""
    masks = {part: {stem: voc[stem] for stem in stems if stem in voc} for part, stems in (("t", train), ("v", val))}
    others = {stem: size for stem, size in [*train.items(), *val.items()] if stem not in voc}
    devkit = write_voc(folder, train=masks["t"], val=masks["v"], others=others, year="VOC2010")
    for part, stems in (("train", train), ("val", val), ("trainval", {**train, **val})):
        write_lines(devkit / "VOC2010" / "ImageSets" / "Main" / f"{part}.txt", stems)
    return devkit


def write_context_json(path: Path, *, train: Mapping[str, FullIds], val: Mapping[str, FullIds]) -> Path:
    """`trainval_merged.json`: an annotation for each id of each image, as COCO's compressed run lengths."""
    images, annotations = [], []
    for phase, part in (("train", train), ("val", val)):
        for stem, ids in part.items():
            image_id = int(stem.replace("_", ""))
            size = {"height": ids.shape[0], "width": ids.shape[1]}
            images.append({"file_name": f"{stem}.jpg", "phase": phase, "image_id": image_id, **size, "more": "2007"})
            for category in np.setdiff1d(ids, [0]).tolist():
                annotations.append(context_annotation(len(annotations), image_id, category, ids == category))
    content = {"info": {}, "images": images, "annos_segmentation": annotations, "annos_occlusion": [], "parts": []}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def context_annotation(number: int, image_id: int, category: int, region: NDArray[np.bool_]) -> dict[str, object]:
    """One entry of `annos_segmentation`."""
    encoded = coco.encode(np.asfortranarray(region, np.uint8))
    return {
        "segmentation": {"size": list(region.shape), "counts": encoded["counts"].decode()},
        "image_id": image_id,
        "category_id": category,
        "id": number,
        "parts": [],
    }


def write_context_mats(folder: Path, ids: Mapping[str, FullIds]) -> Path:
    """The folder trainval as `trainval.tar.gz` unpacks it: a LabelMap of the 459 classes for each image."""
    target = folder / "trainval"
    target.mkdir(parents=True, exist_ok=True)
    for stem, full in ids.items():
        savemat(target / f"{stem}.mat", {"LabelMap": full}, do_compression=True)
    return target


def write_context_masks(folder: Path, masks: Mapping[str, Mask]) -> Path:
    """A folder of converted masks as mmsegmentation writes them: plain 8-bit PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, mask in masks.items():
        Image.fromarray(mask, mode="L").save(folder / f"{stem}.png")
    return folder
