import hashlib
from pathlib import Path

import numpy as np
import pytest

from cascade_clip.data.images import decode_label, open_image
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.shapes.classes import CLASS_NAMES, THINGS
from cascade_clip.shapes.prepare import prepare_shapes
from cascade_clip.shapes.scenes import draw_scene


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "shapes"
    prepare_shapes(folder, train=6, val=4, size=64, seed=5, workers=1)
    return folder


def test_dataset_holds_the_counts_and_classes(prepared):
    dataset = PreparedDataset.open(prepared)
    assert dataset.name == "shapes"
    assert tuple(dataset.class_names) == CLASS_NAMES
    assert (dataset.count("train"), dataset.count("val")) == (6, 4)


def test_records_are_the_scenes_of_the_seed(prepared):
    record = PreparedDataset.open(prepared).read("val", 2)
    scene = draw_scene((5, 1, 2), size=64)
    np.testing.assert_array_equal(decode_label(record.label_bytes), scene.label)
    assert list(record.present) == np.unique(scene.label).tolist()
    image = open_image(record.image_bytes).astype(int)
    assert np.abs(image - scene.image).mean() < 6


def test_without_stuff_only_things_are_labelled(prepared, tmp_path):
    prepare_shapes(tmp_path / "things", train=6, val=4, size=64, seed=5, stuff=False, workers=1)
    things, everything = PreparedDataset.open(tmp_path / "things"), PreparedDataset.open(prepared)
    assert (things.name, tuple(things.class_names)) == ("shapes-things", tuple(thing.name for thing in THINGS))
    ignored = 0
    for i in range(6):
        record, twin = things.read("train", i), everything.read("train", i)
        label, full = decode_label(record.label_bytes), decode_label(twin.label_bytes)
        np.testing.assert_array_equal(label, np.where(full < len(THINGS), full, 255))
        assert record.image_bytes == twin.image_bytes
        ignored += int((label == 255).sum())
    assert 0 < ignored < 6 * 64 * 64


def test_bytes_do_not_depend_on_workers(prepared, tmp_path):
    prepare_shapes(tmp_path / "again", train=6, val=4, size=64, seed=5, workers=2)
    for file in sorted(prepared.glob("data/*.parquet")):
        twin = tmp_path / "again" / "data" / file.name
        assert hashlib.sha256(twin.read_bytes()).digest() == hashlib.sha256(file.read_bytes()).digest()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 0}, "train is 0; it must be at least 1."),
        ({"val": -3}, "val is -3; it must be at least 1."),
        ({"seed": -1}, "seed is -1; it must be at least 0."),
        ({"size": 20}, "size is 20; scenes can be drawn from 48 to 256 pixels a side."),
    ],
)
def test_wrong_numbers_are_refused(tmp_path, options, message):
    with pytest.raises(UserError) as caught:
        prepare_shapes(tmp_path / "x", **options)
    assert str(caught.value) == message
    assert not (tmp_path / "x").exists()
