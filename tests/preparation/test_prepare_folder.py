"""Own images and masks, end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.data.images import decode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.preparation.prepare_folder import prepare_folder
from cascade_clip.preparation.source_files import read_colours, read_lines

MASK = np.array([[0, 1, 1], [255, 1, 0]], np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(5):
        Image.new("RGB", (3, 2), (index, 0, 0)).save(folder / "images" / f"p{index}.jpg")
        Image.fromarray(MASK).save(folder / "masks" / f"p{index}.png")
    return folder


def _prepare(source: Path, **options: object) -> DatasetInfo:
    arguments: dict[str, object] = {"name": "mine", "classes": ["sky", "tree"]}
    folders = {"images": source / "images", "masks": source / "masks"}
    return prepare_folder(source.parent / "out", **(arguments | folders | options))  # type: ignore[arg-type]


def test_index_masks(source: Path) -> None:
    info = _prepare(source)
    assert {part: content.images for part, content in info.parts.items()} == {"train": 4, "val": 1}
    assert info.parts["train"].pixels == (8, 12)
    assert info.parts["train"].ignored_pixels == 4
    assert info.options == {"from": "folder", "first_index": 0, "ignore": [], "val_fraction": 0.2, "seed": 0}
    dataset = PreparedDataset.open(source.parent / "out")
    record = dataset.read("val", 0)
    assert record.image_bytes == (source / "images" / f"{record.id}.jpg").read_bytes()
    assert np.array_equal(decode_label(record.label_bytes), MASK)
    assert record.present == [0, 1]


def test_colour_masks(source: Path) -> None:
    palette = np.zeros((256, 3), np.uint8)
    palette[[0, 1]] = [[0, 0, 200], [0, 99, 0]]
    for path in (source / "masks").iterdir():
        Image.fromarray(palette[MASK]).save(path)
    colours = {"tree": (0, 99, 0), "sky": (0, 0, 200)}
    info = _prepare(source, colours=colours, ignore=["#000000"])
    assert info.colours == ((0, 0, 200), (0, 99, 0))
    record = PreparedDataset.open(source.parent / "out").read("train", 0)
    assert np.array_equal(decode_label(record.label_bytes), MASK)


def test_lists_are_recorded_with_their_checksum(source: Path) -> None:
    path = source / "val.txt"
    path.write_text("p3\n")
    info = _prepare(source, val_list=path)
    assert [(file.name, file.bytes) for file in info.sources] == [("val.txt", 3)]
    assert len(info.sources[0].sha256) == 64
    assert PreparedDataset.open(source.parent / "out").read("val", 0).id == "p3"
    assert "seed" not in info.options


def test_every_bad_file_is_named_and_nothing_is_written(source: Path) -> None:
    images, masks = source / "images", source / "masks"
    Image.new("L", (2, 2)).save(masks / "p0.png")
    Image.fromarray(MASK + 1).save(masks / "p1.png")
    (images / "p2.jpg").write_bytes((images / "p2.jpg").read_bytes()[:200])
    (masks / "p3.png").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        _prepare(source)
    text = str(caught.value)
    assert text.startswith("4 problems were found; nothing was written:")
    assert f"{masks / 'p0.png'} has 2 x 2 pixels, its image {images / 'p0.jpg'} has 3 x 2; they must be equal." in text
    assert f"{masks / 'p1.png'} holds the value 2, which is no class" in text
    assert f"{images / 'p2.jpg'} cannot be read: it is broken" in text
    assert f"{masks / 'p3.png'} cannot be read: it is broken" in text
    assert [path.name for path in source.parent.iterdir()] == ["source"]


def test_colour_masks_without_a_table_say_what_to_give(source: Path) -> None:
    Image.new("RGB", (3, 2)).save(source / "masks" / "p0.png")
    with pytest.raises(UserError, match=r"p0\.png is a colour image .* \(--colours\)"):
        _prepare(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["a", ""]}, r"classes\[1\]\.name: the name is empty"),
        ({"classes": [f"c{i}" for i in range(256)]}, "there are 256; at most 255 fit into 8-bit labels"),
        ({"ignore": ["no"]}, "--ignore takes a mask value of 0 to 255; got no"),
        ({"ignore": ["256"]}, "--ignore takes mask values of 0 to 255; got 256"),
        ({"ignore": ["0"], "colours": {"sky": (0, 0, 1), "tree": (0, 1, 0)}}, "--ignore takes a colour such as"),
        ({"first_index": 254}, "first index 254 does not fit"),
        ({"first_index": -1}, "first index -1 does not fit"),
    ],
)
def test_options_that_cannot_be(source: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _prepare(source, **options)
    assert [path.name for path in source.parent.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", 'road = "#804080"\ntv = [1, 2, 3]\n'),
        ("c.csv", "road,#804080\ntv,1,2,3\n"),
        ("c.csv", "road, 128, 64, 128\n\ntv, #010203\n"),
    ],
)
def test_colour_tables(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_colours(path) == {"road": (128, 64, 128), "tv": (1, 2, 3)}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "a,#000000\nb,red\nc,#000000\n", "b: a colour is .*\n  c: the colour stands there more than once"),
        ("c.csv", "", "it holds no colour"),
        ("c.toml", "a = ", "is not valid TOML"),
    ],
)
def test_mistakes_in_colour_tables(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_colours(path)


def test_blank_lines_count_inside_a_list_of_classes_only(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("\ufeffsky \n\ntree\n\n", encoding="utf-8")
    assert read_lines(path, "list of classes") == ["sky", "", "tree"]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"classes\.txt is not a UTF-8 text file"):
        read_lines(path, "list of classes")
