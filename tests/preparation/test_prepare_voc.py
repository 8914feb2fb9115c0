"""A miniature VOC 2012 with SBD in the true encodings, from folders and from the official archives."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from official_miniatures import Mask, drawn_mask, pack, sbd_mat, write_lines, write_palette_png, write_sbd, write_voc
from prepared_folder import by_id, ids

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.preparation import prepare_voc as module
from cascade_clip.preparation.prepare_dataset import prepare
from cascade_clip.preparation.prepare_voc import prepare_voc

PUBLISHED = module._COUNTS

MASK = np.array([[0, 1, 20, 2], [255, 15, 0, 19], [255, 255, 7, 7]], np.uint8)
LABEL = [[255, 0, 19, 1], [255, 14, 255, 18], [255, 255, 6, 6]]
OTHER = np.array([[20, 20, 1, 0], [3, 3, 3, 0], [0, 0, 0, 0]], np.uint8)
OTHER_LABEL = [[19, 19, 0, 255], [2, 2, 2, 255], [255, 255, 255, 255]]

TRAIN = {"2007_b": MASK, "2007_a": drawn_mask(1, range(21), (30, 22))}
VAL = {"2007_w": drawn_mask(2, [255, 4, 0], (25, 40)), "2007_v": MASK}
OTHERS = {"2008_x": (3, 4), "2008_y": (3, 4), "2008_z": (3, 4)}
# An image of each of VOC's parts is in SBD too, with another mask.
SBD_TRAIN = {"2008_y": OTHER, "2007_b": OTHER}
SBD_VAL = {"2008_x": OTHER, "2007_v": OTHER}


@pytest.fixture
def devkit(tmp_path) -> Path:
    """The folder VOCdevkit."""
    return write_voc(tmp_path / "voc", train=TRAIN, val=VAL, others=OTHERS)


@pytest.fixture
def release(tmp_path) -> Path:
    """SBD's folder benchmark_RELEASE, with a mask that no list names."""
    folder = write_sbd(tmp_path / "sbd", train=SBD_TRAIN, val=SBD_VAL)
    (folder / "dataset" / "cls" / "2008_z.mat").write_bytes(sbd_mat(OTHER))
    return folder


@pytest.fixture(autouse=True)
def miniature_counts(monkeypatch) -> None:
    monkeypatch.setattr(module, "_COUNTS", {"train": 2, "val": 2, "added": 2})


def _by_id(folder: Path) -> dict[str, list[list[int]]]:
    return {stem: label.tolist() for stem, label in by_id(folder).items()}


def _without_background(mask: Mask) -> list[list[int]]:
    """The label by the definition, pixel by pixel."""
    return [[255 if value in {0, 255} else int(value) - 1 for value in row] for row in mask]


# --- VOC itself ---


def _official(devkit: Path, tmp_path: Path) -> Path:
    return pack(devkit, tmp_path / "downloads" / "VOCtrainval_11-May-2012.tar")


def _renamed(devkit: Path, tmp_path: Path) -> Path:
    return (devkit / "VOC2012").rename(tmp_path / "my voc")


def _beside_another_year(devkit: Path, tmp_path: Path) -> Path:
    shutil.copytree(devkit / "VOC2012", devkit / "VOC2010")
    write_lines(devkit / "VOC2010" / "ImageSets" / "Segmentation" / "train.txt", ["2008_z"])
    return devkit


SOURCES: dict[str, Callable[[Path, Path], Path]] = {
    "VOC2012": lambda devkit, tmp_path: devkit / "VOC2012",
    "VOCdevkit": lambda devkit, tmp_path: devkit,
    "above": lambda devkit, tmp_path: devkit.parent,
    "renamed": _renamed,
    "two years": _beside_another_year,
    "tar": _official,
    "folder of tar": lambda devkit, tmp_path: _official(devkit, tmp_path).parent,
    "zip": lambda devkit, tmp_path: pack(devkit, tmp_path / "voc2012.zip"),
    "tar.gz": lambda devkit, tmp_path: pack(devkit, tmp_path / "voc2012.tar.gz"),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_pixel_from_every_source(devkit: Path, tmp_path, kind: str):
    images = {path.stem: path.read_bytes() for path in (devkit / "VOC2012" / "JPEGImages").iterdir()}
    source = SOURCES[kind](devkit, tmp_path)
    info = prepare_voc(tmp_path / "out", source=source)
    assert (info.name, info.classes) == ("voc", get_split("voc").class_names)
    assert info.options == {"from": "voc", "sbd": None, "subset": None}
    assert ids(tmp_path / "out") == {"train": ["2007_a", "2007_b"], "val": list(VAL)}
    found = _by_id(tmp_path / "out")
    assert found["2007_b"] == found["2007_v"] == LABEL
    assert found == {stem: _without_background(mask) for stem, mask in (TRAIN | VAL).items()}
    record = PreparedDataset.open(tmp_path / "out").read("val", 1)
    assert (record.id, record.present) == ("2007_v", [0, 1, 6, 14, 18, 19])
    assert record.image_bytes == images["2007_v"]
    assert not (tmp_path / ".out.sources").exists()


def test_the_sources_are_recorded(devkit: Path, tmp_path):
    info = prepare_voc(tmp_path / "out", source=devkit)
    assert [source.name for source in info.sources] == ["train.txt", "val.txt"]
    archive = _official(devkit, tmp_path)
    info = prepare_voc(tmp_path / "out", source=archive, overwrite=True)
    assert [source.name for source in info.sources] == ["train.txt", "val.txt", "VOCtrainval_11-May-2012.tar"]
    assert info.sources[2].sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()


# --- the SBD additions ---


def _aug_folder(release: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "trainaug" / "SegmentationClassAug"
    for stem, mask in (SBD_TRAIN | SBD_VAL).items():
        write_palette_png(folder / f"{stem}.png", mask)
    return folder


def _aug_zip(release: Path, tmp_path: Path) -> Path:
    """As it circulates: made by a Mac, which adds a shadow of every file."""
    folder = _aug_folder(release, tmp_path)
    for path in list(folder.iterdir()):
        write_lines(folder.parent / "__MACOSX" / folder.name / f"._{path.name}", ["shadow"])
    return pack(folder.parent, tmp_path / "SegmentationClassAug.zip")


def _torchvision(release: Path, tmp_path: Path) -> Path:
    """torchvision's SBDataset moves the folders up."""
    return (release / "dataset").rename(tmp_path / "torchvision sbd")


ADDITIONS: dict[str, Callable[[Path, Path], Path]] = {
    "benchmark_RELEASE": lambda release, tmp_path: release,
    "dataset": lambda release, tmp_path: release / "dataset",
    "torchvision": _torchvision,
    "tgz": lambda release, tmp_path: pack(release, tmp_path / "benchmark.tgz"),
    "folder of tgz": lambda release, tmp_path: pack(release, tmp_path / "downloads" / "benchmark.tgz").parent,
    "SegmentationClassAug": _aug_folder,
    "above SegmentationClassAug": lambda release, tmp_path: _aug_folder(release, tmp_path).parent,
    "zip": _aug_zip,
}


@pytest.mark.parametrize("kind", ADDITIONS)
def test_additions_join_training_but_never_validation(devkit: Path, release: Path, tmp_path, kind: str):
    info = prepare_voc(tmp_path / "out", source=devkit, sbd=ADDITIONS[kind](release, tmp_path))
    assert ids(tmp_path / "out") == {"train": ["2007_a", "2007_b", "2008_x", "2008_y"], "val": list(VAL)}
    found = _by_id(tmp_path / "out")
    # VOC's own mask where both have one.
    assert found["2007_b"] == found["2007_v"] == LABEL
    assert found["2008_x"] == found["2008_y"] == OTHER_LABEL
    by_png = "Aug" in kind or kind == "zip"
    assert info.options["sbd"] == ("SegmentationClassAug" if by_png else "SBD")
    lists = [source.name for source in info.sources if source.name.endswith(".txt")]
    assert lists == ["train.txt", "val.txt"] * (1 if by_png else 2)
    assert not (tmp_path / ".out.sources").exists()


@pytest.mark.parametrize("kind", ["tgz", "SegmentationClassAug", "zip", "both"])
def test_additions_beside_voc_are_used(devkit: Path, release: Path, tmp_path, kind: str):
    home = devkit.parent
    if kind in {"tgz", "both"}:
        pack(release, home / "benchmark.tgz")
    if kind in {"SegmentationClassAug", "both"}:
        _aug_folder(release, tmp_path).rename(devkit / "VOC2012" / "SegmentationClassAug")
    if kind == "zip":
        _aug_zip(release, home)
        shutil.rmtree(home / "trainaug")
    info = prepare_voc(tmp_path / "out", source=home)
    assert info.parts["train"].images == 4
    assert info.options["sbd"] == ("SBD" if kind in {"tgz", "both"} else "SegmentationClassAug")


def test_without_sbd_s_lists_the_masks_decide(devkit: Path, release: Path, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_COUNTS", {"train": 2, "val": 2, "added": 3})
    every = ["2007_a", "2007_b", "2008_x", "2008_y", "2008_z"]
    prepare_voc(tmp_path / "cls", source=devkit, sbd=release / "dataset" / "cls")
    assert ids(tmp_path / "cls")["train"] == every
    (release / "dataset" / "val.txt").unlink()
    prepare_voc(tmp_path / "one", source=devkit, sbd=release)
    assert ids(tmp_path / "one")["train"] == every


@pytest.mark.parametrize("kind", ["folder", "tgz"])
def test_images_that_voc_lacks_are_sbd_s(devkit: Path, release: Path, tmp_path, kind: str):
    (devkit / "VOC2012" / "JPEGImages" / "2008_x.jpg").unlink()
    image = (release / "dataset" / "img" / "2008_x.jpg").read_bytes()
    kept = (devkit / "VOC2012" / "JPEGImages" / "2008_y.jpg").read_bytes()
    sbd = release if kind == "folder" else pack(release, tmp_path / "benchmark.tgz")
    prepare_voc(tmp_path / "out", source=devkit, sbd=sbd)
    dataset = PreparedDataset.open(tmp_path / "out")
    assert [dataset.read("train", index).image_bytes for index in (2, 3)] == [image, kept]
    assert not (tmp_path / ".out.sources").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (sbd_mat(OTHER + 21), r"2008_x\.mat holds the values 21, 22, 24, 41, which is no class"),
        (sbd_mat(OTHER)[:300], r"2008_x\.mat cannot be read as a label map of SBD"),
        (b"<html>" * 100, r"2008_x\.mat cannot be read as a label map of SBD"),
        (
            sbd_mat(OTHER.astype(np.uint16) + 300),
            r"2008_x\.mat holds numbers from 300 to 320; .* whole numbers of 0 to 2",
        ),
    ],
)
def test_a_broken_mat_file_is_named(devkit: Path, release: Path, tmp_path, content: bytes, message: str):
    (release / "dataset" / "cls" / "2008_x.mat").write_bytes(content)
    packed = pack(release, tmp_path / "benchmark.tgz")
    with pytest.raises(UserError, match=rf"benchmark\.tgz/benchmark_RELEASE/dataset/cls/{message}"):
        prepare_voc(tmp_path / "out", source=devkit, sbd=packed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmark.tgz", "sbd", "voc"]


# --- what is not as published ---


def test_other_counts_are_an_error_unless_a_subset_is_asked_for(devkit: Path, release: Path, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_COUNTS", PUBLISHED)
    with pytest.raises(
        UserError, match=r"gives 2 training and 2 validation images; published are 1,464 and 1,449\. .*--su"
    ):
        prepare_voc(tmp_path / "out", source=devkit)
    monkeypatch.setattr(module, "_COUNTS", {"train": 2, "val": 2, "added": 9118})
    message = r"\(SBD\) give 2 training images beside those of VOC 2012; published are 9,118, for 9,120 in all\. .*--s"
    with pytest.raises(UserError, match=message):
        prepare_voc(tmp_path / "out", source=devkit, sbd=release)
    info = prepare_voc(tmp_path / "out", source=devkit, sbd=release, subset=1)
    assert {part: content.images for part, content in info.parts.items()} == {"train": 1, "val": 1}
    assert info.options["subset"] == 1


def test_missing_files_are_all_named(devkit: Path, release: Path, tmp_path):
    voc = devkit / "VOC2012"
    for path in (voc / "JPEGImages" / "2007_a.jpg", voc / "SegmentationClass" / "2007_b.png"):
        path.unlink()
    (release / "dataset" / "cls" / "2008_x.mat").unlink()
    with pytest.raises(UserError) as caught:
        prepare_voc(tmp_path / "out", source=devkit, sbd=release)
    assert str(caught.value).splitlines() == [
        "3 problems were found; nothing was written:",
        f"  JPEGImages/2007_a.jpg is missing in {devkit}.",
        f"  SegmentationClass/2007_b.png is missing in {devkit}.",
        "  2008_x has no mask of SBD.",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("background", "classes"), [(False, "20 classes are 1 to 20"), (True, "21 classes")])
def test_a_value_that_voc_does_not_have_is_named(devkit: Path, tmp_path, background: bool, classes: str):
    write_palette_png(devkit / "VOC2012" / "SegmentationClass" / "2007_b.png", np.minimum(MASK, 248) + 6)
    with pytest.raises(
        UserError, match=rf"2007_b\.png holds the values 21, 25, 26, 254, which is no class: the values of {classes}"
    ):
        prepare_voc(tmp_path / "out", source=_official(devkit, tmp_path), background=background)


def test_sources_that_are_not_voc(devkit: Path, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"VOC 2012 was not found in .*empty: .*Give VOCtrainval_11-May-2012\.tar, its"):
        prepare_voc(tmp_path / "out", source=empty)
    with pytest.raises(UserError, match=r"The SBD additions were not found in .*empty: .*Give benchmark\.tgz, or the"):
        prepare_voc(tmp_path / "out", source=devkit, sbd=empty)
    (devkit / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(
        UserError, match=r"is not complete: ImageSets/Segmentation/val\.txt is missing beside .*train\.tx"
    ):
        prepare_voc(tmp_path / "out", source=devkit)


def test_background_is_a_class_and_only_the_border_is_ignored(tmp_path, devkit: Path):
    info = prepare("voc-background", pack(devkit, tmp_path / "voc.tar"), tmp_path / "out")
    assert (info.name, info.classes) == ("voc-background", get_split("voc-background").class_names)
    assert info.colours == get_split("voc-background").colours
    assert (info.options["from"], info.options["sbd"]) == ("voc-background", None)
    assert _by_id(tmp_path / "out") == {stem: mask.tolist() for stem, mask in (TRAIN | VAL).items()}
