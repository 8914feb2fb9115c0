"""A miniature ADE20K in the true encoding, 0 = no class and 1..150, as the official zip and as folders."""

from pathlib import Path

import numpy as np
import pytest
from official_miniatures import drawn_mask, pack, set_counts, write_ade20k
from PIL import Image
from prepared_folder import labels

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.preparation.prepare_dataset import prepare

EVERY_VALUE = np.arange(151, dtype=np.uint8).reshape(1, 151).repeat(2, axis=0)
TRAIN = {"ADE_train_00000001": EVERY_VALUE, "ADE_train_00000002": drawn_mask(1, [0, 1, 150, 255])}
VAL = {"ADE_val_00000001": drawn_mask(2, [42, 0, 8], (30, 50)), "ADE_val_00000002": drawn_mask(3, [5, 150])}
# Stored value and label by the class's name, written down by hand from objectInfo150.txt's order.
BY_HAND = {"wall": 1, "building": 2, "sky": 3, "bed": 8, "person": 13, "car": 21, "screen": 131, "flag": 150}


@pytest.fixture(autouse=True)
def miniature_counts(monkeypatch) -> None:
    set_counts(monkeypatch, "ade20k", train=2, val=2)


@pytest.fixture
def release(tmp_path) -> Path:
    """The folder ADEChallengeData2016."""
    return write_ade20k(tmp_path / "source", train=TRAIN, val=VAL)


def _expected(mask: np.ndarray) -> np.ndarray:
    return np.where((mask == 0) | (mask == 255), 255, mask.astype(int) - 1)


def test_the_zip_is_prepared_pixel_for_pixel(tmp_path, release: Path):
    archive = pack(release, tmp_path / "zips" / "ADEChallengeData2016.zip")
    info = prepare("ade20k", archive, tmp_path / "out")
    assert (info.name, info.classes) == ("ade20k", get_split("ade20k").class_names)
    assert info.options == {"from": "ade20k", "subset": None}
    assert [file.name for file in info.sources] == ["ADEChallengeData2016.zip"]
    found = labels(tmp_path / "out")
    assert {part: list(of) for part, of in found.items()} == {"train": list(TRAIN), "val": list(VAL)}
    for stem, mask in (TRAIN | VAL).items():
        assert np.array_equal((found["train"] | found["val"])[stem], _expected(mask))
    assert info.parts["train"].pixels[149] > 0
    record = PreparedDataset.open(tmp_path / "out").read("val", 0)
    assert record.image_bytes == (release / "images" / "validation" / "ADE_val_00000001.jpg").read_bytes()


def test_values_written_by_hand_belong_to_the_class_of_that_name(tmp_path, release: Path):
    prepare("ade20k", release, tmp_path / "out")
    row = labels(tmp_path / "out")["train"]["ADE_train_00000001"][0]
    names = get_split("ade20k").class_names
    assert {name: names[row[value]] for name, value in BY_HAND.items()} == {name: name for name in BY_HAND}


@pytest.mark.parametrize("value", [151, 254])
def test_a_value_that_is_no_class_is_named(tmp_path, release: Path, value: int):
    path = release / "annotations" / "validation" / "ADE_val_00000002.png"
    Image.fromarray(np.full((48, 64), value, np.uint8)).save(path)
    with pytest.raises(UserError, match=rf"ADE_val_00000002\.png holds the value {value}, .*hold 0 to 150, where 0 is"):
        prepare("ade20k", release, tmp_path / "out")
    assert not (tmp_path / "out").exists()
