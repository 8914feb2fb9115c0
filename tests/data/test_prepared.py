"""Reading prepared datasets, where they are found, and what damaged ones say."""

import io
import json
import pickle
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from tiny_data import CLASSES, draw

from cascade_clip.data.dataset_location import locate_dataset
from cascade_clip.data.images import decode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.preparation.shards import ImageSource


def test_records_are_what_was_given(squares: Path):
    dataset = PreparedDataset.open(squares)
    assert (dataset.name, dataset.class_names) == ("squares", CLASSES)
    assert (dataset.count("train"), dataset.count("val")) == (10, 3)
    for index in (9, 0, 8):  # 8 and 9 lie in the second row group
        image, label = draw(ImageSource("", index))
        record = dataset.read("train", index)
        assert record.id == f"t{index}"
        assert record.image_bytes == image
        assert np.array_equal(decode_label(record.label_bytes), label)
        assert record.present == [value for value in np.unique(label) if value != 255]
    for index in (-1, 10):
        with pytest.raises(IndexError, match="train has 10 images"):
            dataset.read("train", index)
    assert pickle.loads(pickle.dumps(dataset)).read("val", 2).id == "v2"


def test_the_datasets_library_reads_the_folder(squares: Path, tmp_path):
    loaded = datasets.load_dataset(str(squares), cache_dir=str(tmp_path))
    assert {part: len(rows) for part, rows in loaded.items()} == {"train": 10, "val": 3}
    row = loaded["val"][1]
    image, label = draw(ImageSource("", 1001))
    assert np.array_equal(np.array(row["image"]), np.array(Image.open(io.BytesIO(image))))
    assert row["label"].mode == "L"
    assert np.array_equal(np.array(row["label"]), label)
    assert (row["id"], row["present"]) == ("v1", PreparedDataset.open(squares).read("val", 1).present)


@pytest.mark.parametrize("place", [2000, -4], ids=["middle", "footer"])
def test_damage_of_a_shard_names_the_file(squares: Path, tmp_path, place: int):
    folder = shutil.copytree(squares, tmp_path / "squares")
    shard = folder / "data" / "train-00000-of-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[place] ^= 255
    shard.write_bytes(content)
    with pytest.raises(UserError, match=rf"The shard .*{shard.name} is damaged"):
        PreparedDataset.open(folder).read("train", 0)


def test_short_and_missing_shards_are_noticed_at_once(squares: Path, tmp_path):
    folder = shutil.copytree(squares, tmp_path / "squares")
    shard = folder / "data" / "val-00000-of-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{shard.name} has \d+ bytes instead of \d+"):
        PreparedDataset.open(folder)
    shard.unlink()
    with pytest.raises(UserError, match=rf"{shard.name} is missing"):
        PreparedDataset.open(folder)


def test_folders_that_are_no_dataset(squares: Path, tmp_path):
    with pytest.raises(UserError, match=r"is no prepared dataset: it has no dataset\.json"):
        PreparedDataset.open(tmp_path)
    with pytest.raises(UserError, match=r"none is not there\. Make one with `cascade-clip prepare-data`"):
        PreparedDataset.open(tmp_path / "none")
    content = json.loads((squares / "dataset.json").read_text())
    for wrong, message in (
        ("{", r"dataset\.json cannot be read"),
        (json.dumps({**content, "format": 2}), "has format 2, this version of Cascade-CLIP reads up to 1"),
        (json.dumps({**content, "ignore": 5}), r"ignore: 255 is expected \(got 5\)"),
        (json.dumps({**content, "images": True}), "images: unknown key"),
        ("[" * 5000, r"dataset\.json cannot be read"),
        (json.dumps({**content, "classes": 3}), "prepare the dataset again:\n  classes: a list is expected"),
    ):
        (tmp_path / "dataset.json").write_text(wrong)
        with pytest.raises(UserError, match=message):
            PreparedDataset.open(tmp_path)


def test_classes_are_compared_with_a_split(squares: Path):
    dataset = PreparedDataset.open(squares)
    dataset.check_classes(CLASSES, "mine")
    with pytest.raises(UserError, match='"mine": it has 3 classes, the split 2'):
        dataset.check_classes(CLASSES[:2], "mine")
    with pytest.raises(UserError, match='its class 1 is "green", the split\'s is "blue"'):
        dataset.check_classes(("red", "blue", "green"), "mine")
    dataset.info = dataset.info.model_copy(update={"classes": ("caf\u00e9",)})
    dataset.check_classes(("cafe\u0301",), "mine")


def test_datasets_are_found_where_the_design_says(squares: Path, tmp_path, monkeypatch):
    assert locate_dataset("any", squares) == squares
    assert locate_dataset("squares", squares.parent) == squares
    monkeypatch.setenv("CASCADE_CLIP_DATA", str(squares.parent))
    assert locate_dataset("squares") == squares
    with pytest.raises(UserError, match=r'"voc" was not found in .*Give its folder with --data, set CASCADE_CLIP_DATA'):
        locate_dataset("voc")
    with pytest.raises(UserError, match=r"Make it with `cascade-clip prepare-data voc --output .*voc`"):
        locate_dataset("voc", tmp_path)
    for name in ("mine", "shapes-of-mine"):
        with pytest.raises(UserError, match=r"`cascade-clip prepare-data folder --source FOLDER --output "):
            locate_dataset(name, tmp_path)
