"""Datasets in other people's layouts, read while training without being prepared, with and without a stream."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_hub import COMMIT, fake_hub
from foreign_data import NAMES, draw_image, draw_label, encode_mask, write_imagefolder, write_parquet
from PIL import Image
from training_batches import assert_same_batches, load_batches

from cascade_clip.data import foreign_rows
from cascade_clip.data.dataset_location import dataset_folder, locate_dataset
from cascade_clip.data.foreign_rows import RowSource
from cascade_clip.data.images import decode_label, open_image
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError

pytestmark = pytest.mark.usefixtures("own_datasets_cache")


def _open(source: Path, *, stream: bool = False, names: tuple[str, ...] | None = None) -> PreparedDataset:
    return PreparedDataset.open(dataset_folder(source, stream=stream, class_names=names))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("write", [write_imagefolder, write_parquet])
def test_records_are_converted_while_they_are_read(write: Callable[[Path], Path], tmp_path, stream: bool):
    dataset = _open(write(tmp_path / "source"), stream=stream)
    assert (dataset.name, dataset.class_names, dataset.count("train"), dataset.count("val")) == ("source", NAMES, 9, 3)
    for part, first in (("train", 0), ("val", 100)):
        for index in (0, 1, 2, 1):
            record = dataset.read(part, index)  # type: ignore[arg-type]
            assert record.id.startswith(("train-", "validation-"))
            assert record.id.endswith(f"(p{first + index}.jpg)" if write is write_imagefolder else f"{index:06d}")
            assert record.image_bytes == draw_image(first + index)
            assert np.array_equal(decode_label(record.label_bytes), draw_label(first + index))
            assert record.present == sorted({(first + index) % 3, (first + index + 1) % 3})
    with pytest.raises(IndexError, match="val has 3 images"):
        dataset.read("val", 3)


@pytest.mark.parametrize(("write", "buffer"), [(write_imagefolder, 500), (write_parquet, 4)])
def test_a_stream_is_shuffled_anew_each_epoch_and_resumes(
    write: Callable[[Path], Path], tmp_path, monkeypatch, buffer: int
):
    monkeypatch.setattr(foreign_rows, "SHUFFLE_BUFFER", buffer)
    dataset = _open(write(tmp_path / "source"), stream=True)
    epochs = [[dataset.read_shuffled(5, epoch, place).image_bytes for place in range(9)] for epoch in range(3)]
    images = [draw_image(index) for index in range(9)]
    assert all(sorted(epoch) == sorted(images) for epoch in epochs)
    assert len({tuple(order) for order in (*epochs, images)}) == 4
    whole = load_batches(dataset, start_step=0)
    assert_same_batches(whole, load_batches(_open(tmp_path / "source", stream=True), start_step=0, workers=2))
    for start in (1, 3):
        assert_same_batches(whole[start:], load_batches(_open(tmp_path / "source", stream=True), start_step=start))
    halves = [load_batches(dataset, start_step=0, rank=rank, world=2) for rank in range(2)]
    assert [batch["id"] for batch in whole] == [a["id"] + b["id"] for a, b in zip(*halves, strict=True)]


def test_classes_of_a_split_count_where_the_dataset_names_none(tmp_path):
    source = write_imagefolder(tmp_path / "source")
    (source / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"does not name its classes: give --split NAME, add a classes\.txt"):
        dataset_folder(source)
    assert PreparedDataset.open(locate_dataset("mine", source, class_names=NAMES)).class_names == NAMES
    (source / "classes.txt").write_text("a\nb\nc\n")
    found = PreparedDataset.open(locate_dataset("mine", source, class_names=NAMES))
    with pytest.raises(UserError, match='its class 0 is "a", the split\'s is "sky"'):
        found.check_classes(NAMES, "mine")


def test_a_row_that_does_not_fit_stops_training_in_one_sentence(tmp_path):
    source = write_parquet(
        tmp_path / "source", mask=lambda index: encode_mask(np.full((30 + index % 3, 40), 7, np.uint8))
    )
    for stream in (False, True):
        with pytest.raises(
            UserError, match=r"^The mask of train-.* holds the value 7.*`cascade-clip prepare-data hub`\.$"
        ):
            load_batches(_open(source, stream=stream), start_step=0, workers=1)


def test_foreign_datasets_of_the_hub(tmp_path, monkeypatch):
    with fake_hub(org__folder=write_imagefolder(tmp_path / "folder")) as hub:
        hub.take_the_hubs_place(monkeypatch, tmp_path / "home")
        for stream in (True, False):
            dataset = PreparedDataset.open(dataset_folder("hub:org/folder", stream=stream))
            assert (dataset.place, dataset.class_names) == (f"hub:org/folder@{COMMIT}", NAMES)
            assert dataset.read("val", 2).image_bytes == draw_image(102)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("write", [write_imagefolder, write_parquet])
@pytest.mark.parametrize(
    ("name", "neighbour"),
    [("set [12]", "set 1"), ("lot?", "lots"), ("a*b", "a-b"), ("[a]/b [!c]", "a/b d"), ("x#1", "x")],
)
def test_characters_of_patterns_in_a_path_are_literal(
    write: Callable[..., Path], tmp_path, name: str, neighbour: str, stream: bool
):
    write(tmp_path / neighbour, train=1, validation=1)
    source = write(tmp_path / name, train=3, validation=2)
    # A card with patterns of its own is read literally, too.
    if write is write_parquet:
        card = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n"
        (source / "README.md").write_text(f"---\n{card}  - split: validation\n    path: data/validation-*\n---\n")
    dataset = _open(source, stream=stream)
    assert (dataset.count("train"), dataset.count("val")) == (3, 2)
    assert dataset.read("val", 1).image_bytes == draw_image(101)


@pytest.mark.parametrize("stream", [False, True])
def test_masks_are_turned_as_their_images_are(tmp_path, stream: bool):
    source = write_imagefolder(tmp_path / "source", train=2, validation=0)
    exif = Image.Exif()
    for index, orientation in enumerate((3, 6)):
        exif[0x0112] = orientation
        file = source / "train" / "images" / f"p{index}.jpg"
        Image.open(io.BytesIO(draw_image(index))).save(file, exif=exif)
    dataset = _open(source, stream=stream)
    for index, turns in enumerate((2, 3)):
        record = dataset.read("train", index)
        assert np.array_equal(decode_label(record.label_bytes), np.rot90(draw_label(index), turns))
        assert open_image(record.image_bytes).shape[:2] == np.rot90(draw_label(index), turns).shape


@pytest.mark.parametrize("name", ["a::b", "new\nline", os.fsdecode(b"gr\xfcn")])
def test_paths_that_cannot_be_opened_are_refused(tmp_path, name: str):
    source = write_imagefolder(tmp_path / name, train=1, validation=1)
    for find in (dataset_folder, RowSource.find):
        with pytest.raises(UserError, match=r'holds "::" or a character that cannot be printed.*: rename the folder\.'):
            find(source)


def test_a_link_to_a_folder_is_refused_as_it_would_be_passed_over(tmp_path):
    source = write_imagefolder(tmp_path / "source", train=2, validation=1)
    (source / "validation").rename(tmp_path / "elsewhere")
    (source / ".hidden").mkdir()
    (source / ".hidden" / "link").symlink_to(tmp_path / "elsewhere")
    assert RowSource.find(source).place == source
    (source / "validation").symlink_to(tmp_path / "elsewhere")
    for find in (dataset_folder, RowSource.find):
        with pytest.raises(UserError, match=r'validation" is a link to a folder; .*: put the folder itself there'):
            find(source)
