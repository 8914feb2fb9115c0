"""A miniature Cityscapes in the true encoding, ids of 34 labels in cities' folders, as zips and as folders."""

import logging
from pathlib import Path

import numpy as np
import pytest
from official_miniatures import drawn_mask, pack, set_counts, write_cityscapes
from PIL import Image
from prepared_folder import digests, labels

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.preparation import prepare_cityscapes as module
from cascade_clip.preparation.prepare_dataset import prepare

# Id of each evaluated class, written down by hand; all other ids are ignored.
# fmt: off
BY_HAND = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17, "traffic light": 19,
    "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27,
    "bus": 28, "train": 31, "motorcycle": 32, "bicycle": 33,
}
# fmt: on
EVERY_ID = np.array([[*range(34), 255, 0]], np.uint8).repeat(18, axis=0)
TRAIN = {
    "zurich_000000_000019": EVERY_ID,
    "aachen_000000_000019": drawn_mask(1, [7, 26, 18, 33]),
    "aachen_000001_000019": drawn_mask(2, [23, 29, 30, 31]),
}
VAL = {"munster_000000_000019": drawn_mask(3, [0, 24]), "frankfurt_000000_000294": drawn_mask(4, [11, 13, 14])}
IN_ORDER = {
    "train": ["aachen_000000_000019", "aachen_000001_000019", "zurich_000000_000019"],
    "val": ["frankfurt_000000_000294", "munster_000000_000019"],
}


@pytest.fixture(autouse=True)
def miniature_counts(monkeypatch) -> None:
    set_counts(monkeypatch, "cityscapes", train=3, val=2)


@pytest.fixture
def source(tmp_path) -> Path:
    """A folder with leftImg8bit and gtFine."""
    return write_cityscapes(tmp_path / "source", train=TRAIN, val=VAL)[0].parent


def _zips(source: Path, target: Path) -> Path:
    for folder, archive in (("leftImg8bit", "leftImg8bit_trainvaltest"), ("gtFine", "gtFine_trainvaltest")):
        # The official zips hold the folder itself, license.txt and README beside it.
        pack(source / folder, target / f"{archive}.zip")
    return target


def _expected(mask: np.ndarray) -> np.ndarray:
    label_of = dict.fromkeys([*range(34), 255], 255) | {value: label for label, value in enumerate(BY_HAND.values())}
    return np.vectorize(label_of.get)(mask)


def test_the_zips_are_prepared_pixel_for_pixel(tmp_path, source: Path):
    zips = _zips(source, tmp_path / "zips")
    info = prepare("cityscapes", zips, tmp_path / "out")
    assert (info.name, info.classes, info.colours) == ("cityscapes", tuple(BY_HAND), get_split("cityscapes").colours)
    assert [file.name for file in info.sources] == ["gtFine_trainvaltest.zip", "leftImg8bit_trainvaltest.zip"]
    found = labels(tmp_path / "out")
    assert {part: list(of) for part, of in found.items()} == IN_ORDER
    for stem, mask in (TRAIN | VAL).items():
        assert np.array_equal((found["train"] | found["val"])[stem], _expected(mask))
    record = PreparedDataset.open(tmp_path / "out").read("val", 0)
    original = source / "leftImg8bit" / "val" / "frankfurt" / "frankfurt_000000_000294_leftImg8bit.png"
    assert record.image_bytes == original.read_bytes()


def _convert(source: Path, *, keep: bool) -> None:
    """Write the masks of train ids that converters write, and remove those of ids unless they are to stay."""
    for path in sorted((source / "gtFine").rglob("*_gtFine_labelIds.png")):
        converted = _expected(np.asarray(Image.open(path))).astype(np.uint8)
        Image.fromarray(converted).save(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
        if not keep:
            path.unlink()


@pytest.mark.parametrize("keep", [True, False])
def test_converted_masks_are_read_where_there_are_no_others(tmp_path, source: Path, keep: bool):
    prepare("cityscapes", source, tmp_path / "expected")
    _convert(source, keep=keep)
    prepare("cityscapes", source, tmp_path / "out")
    assert digests(tmp_path / "out", "data/*") == digests(tmp_path / "expected", "data/*")


def test_a_value_that_is_no_id_is_named(tmp_path, source: Path):
    path = source / "gtFine" / "train" / "aachen" / "aachen_000001_000019_gtFine_labelIds.png"
    Image.fromarray(np.full((48, 64), 34, np.uint8)).save(path)
    with pytest.raises(UserError, match=r"aachen_000001_000019_gtFine_labelIds\.png holds the value 34, .*are 0 to 33"):
        prepare("cityscapes", source, tmp_path / "out")


def test_images_of_another_size_than_known_are_said(tmp_path, source: Path, caplog, monkeypatch):
    with caplog.at_level(logging.WARNING):
        prepare("cityscapes", source, tmp_path / "out")
    assert "those of Cityscapes are known to be (1024, 2048)" in caplog.text
    caplog.clear()
    folder = write_cityscapes(tmp_path / "uniform", train=VAL, val=VAL)[0].parent
    monkeypatch.setattr(module, "_SIZE", VAL["munster_000000_000019"].shape)
    prepare("cityscapes", folder, tmp_path / "other", subset=2)
    assert caplog.text == ""
