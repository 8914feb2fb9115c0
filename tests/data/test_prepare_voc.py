"""A miniature VOC 2012 in the true encodings: palette masks, void borders, SBD as PNG and as .mat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cascade_clip.data import prepare_voc as module
from cascade_clip.data.catalogue import default_colour, get_split
from cascade_clip.data.images import decode_label
from cascade_clip.data.prepare_voc import prepare_voc
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError

TRAIN, VAL, EXTRA = ["2007_b", "2007_a"], ["2007_v"], ["2008_x", "2008_y"]
MASK = np.array([[0, 1, 20], [255, 15, 0]], np.uint8)
LABEL = np.array([[255, 0, 19], [255, 14, 255]], np.uint8)


def _palette_png(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask).convert("P")
    image.putpalette([0, 0, 0, *(value for index in range(255) for value in default_colour(index))])
    image.putdata(mask.ravel().tolist())
    image.save(path)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """The folder VOC2012 inside VOCdevkit."""
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    lists = folder / "ImageSets" / "Segmentation"
    for path in (lists, folder / "JPEGImages"):
        path.mkdir(parents=True)
    for part, names in (("train", TRAIN), ("val", VAL)):
        (lists / f"{part}.txt").write_text("\n".join(names) + "\n")
    for name in TRAIN + VAL + EXTRA:
        Image.new("RGB", (3, 2)).save(folder / "JPEGImages" / f"{name}.jpg")
    for name in TRAIN + VAL:
        _palette_png(folder / "SegmentationClass" / f"{name}.png", MASK)
    return folder


@pytest.fixture
def miniature_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("_TRAIN", 2), ("_VAL", 1), ("_TRAIN_WITH_SBD", 4)):
        monkeypatch.setattr(module, name, count)


def _ids(folder: Path, part: str) -> list[str]:
    dataset = PreparedDataset.open(folder)
    return [dataset.read(part, index).id for index in range(dataset.count(part))]  # type: ignore[arg-type]


@pytest.mark.usefixtures("miniature_counts")
@pytest.mark.parametrize("above", [0, 1, 2])
def test_palette_masks_lose_background_and_border(devkit: Path, tmp_path: Path, above: int) -> None:
    info = prepare_voc(tmp_path / "out", source=[devkit, devkit.parent, tmp_path][above])
    assert (info.name, info.classes) == ("voc", get_split("voc").class_names)
    assert _ids(tmp_path / "out", "train") == ["2007_a", "2007_b"]
    record = PreparedDataset.open(tmp_path / "out").read("val", 0)
    assert (record.id, record.present) == ("2007_v", [0, 14, 19])
    assert np.array_equal(decode_label(record.label_bytes), LABEL)
    assert [source.name for source in info.sources] == ["train.txt", "val.txt"]


def _mat(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"GTcls": {"Segmentation": mask, "Boundaries": np.zeros((1, 1))}})


@pytest.mark.usefixtures("miniature_counts")
@pytest.mark.parametrize("kind", ["png", "mat"])
def test_additions_join_training_but_never_validation(devkit: Path, tmp_path: Path, kind: str) -> None:
    other = np.full((2, 3), 7, np.uint8)
    for name in [*EXTRA, VAL[0], TRAIN[0]]:
        if kind == "png":
            _palette_png(tmp_path / "sbd" / "SegmentationClassAug" / f"{name}.png", other)
        else:
            _mat(tmp_path / "sbd" / "benchmark_RELEASE" / "dataset" / "cls" / f"{name}.mat", other)
    prepare_voc(tmp_path / "out", source=devkit, sbd=tmp_path / "sbd")
    assert _ids(tmp_path / "out", "train") == sorted(TRAIN + EXTRA)
    assert _ids(tmp_path / "out", "val") == VAL
    dataset = PreparedDataset.open(tmp_path / "out")
    by_name = {record.id: record for record in (dataset.read("train", i) for i in range(4))}
    assert np.array_equal(decode_label(by_name["2007_b"].label_bytes), LABEL)
    assert (decode_label(by_name["2008_x"].label_bytes) == 6).all()


@pytest.mark.usefixtures("miniature_counts")
def test_additions_beside_the_masks_are_found(devkit: Path, tmp_path: Path) -> None:
    for name in EXTRA:
        _palette_png(devkit / "SegmentationClassAug" / f"{name}.png", MASK)
    assert prepare_voc(tmp_path / "out", source=devkit).parts["train"].images == 4


def test_other_counts_are_an_error_unless_a_subset_is_asked_for(devkit: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"2 training and 1 validation images; published are 1464 and 1449\. .*--subset"
    ):
        prepare_voc(tmp_path / "out", source=devkit)
    info = prepare_voc(tmp_path / "out", source=devkit, subset=1)
    assert {part: content.images for part, content in info.parts.items()} == {"train": 1, "val": 1}
    assert info.options["subset"] == 1


@pytest.mark.usefixtures("miniature_counts")
def test_missing_files_are_all_named(devkit: Path, tmp_path: Path) -> None:
    (devkit / "JPEGImages" / "2007_a.jpg").unlink()
    (devkit / "SegmentationClass" / "2007_b.png").unlink()
    with pytest.raises(UserError, match=r"2 problems(.|\n)*2007_a\.jpg is missing(.|\n)*2007_b\.png is missing"):
        prepare_voc(tmp_path / "out", source=devkit)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("miniature_counts")
def test_a_value_that_voc_does_not_have_is_named(devkit: Path, tmp_path: Path) -> None:
    _palette_png(devkit / "SegmentationClass" / "2007_a.png", MASK + 6)
    with pytest.raises(UserError, match=r"2007_a\.png holds the values 21, 26, which is no class"):
        prepare_voc(tmp_path / "out", source=devkit)


def test_folders_that_are_not_voc(devkit: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"VOC 2012 was not found in .*none: .*Unpack VOCtrainval_11-May-2012\.tar"):
        prepare_voc(tmp_path / "out", source=tmp_path / "none")
    with pytest.raises(UserError, match=r"The SBD additions were not found: no \.png or \.mat file lies in"):
        prepare_voc(tmp_path / "out", source=devkit, sbd=tmp_path / "none")


@pytest.mark.usefixtures("miniature_counts")
def test_a_broken_mat_file_is_named(devkit: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cls"
    for name in EXTRA:
        _mat(folder / f"{name}.mat", MASK)
    savemat(folder / "2008_x.mat", {"other": 1})
    with pytest.raises(UserError, match=r"2008_x\.mat cannot be read as a segmentation of SBD"):
        prepare_voc(tmp_path / "out", source=devkit, sbd=folder)
