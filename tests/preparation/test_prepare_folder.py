"""Own images and masks: which mask belongs to which image, which pairs train, and all of it end to end."""

import os
from pathlib import Path

import numpy as np
import pytest
from own_images import write_own_images
from PIL import Image

from cascade_clip.data.dataset_info import DatasetInfo
from cascade_clip.data.images import decode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.preparation.prepare_dataset import prepare
from cascade_clip.preparation.prepare_folder import choose_parts, pair_files, prepare_folder
from cascade_clip.preparation.source_files import read_colours, read_lines

MASK = np.array([[0, 1, 1], [255, 1, 0]], np.uint8)


@pytest.fixture
def source(tmp_path) -> Path:
    names, image = ["p0", "p1", "p2", "p3", "p4"], np.zeros((2, 3, 3), np.uint8)
    return write_own_images(tmp_path / "source", names, lambda number: (image + np.uint8(number), MASK), ending="jpg")


def _prepare(source: Path, **options: object) -> DatasetInfo:
    arguments: dict[str, object] = {"name": "mine", "classes": ["sky", "tree"]}
    folders = {"images": source / "images", "masks": source / "masks"}
    return prepare_folder(source.parent / "out", **(arguments | folders | options))  # type: ignore[arg-type]


def test_index_masks(source: Path):
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


def test_lists_are_recorded_with_their_checksum(source: Path):
    path = source / "val.txt"
    path.write_text("p3\n")
    info = _prepare(source, val_list=path)
    assert [(file.name, file.bytes) for file in info.sources] == [("val.txt", 3)]
    assert len(info.sources[0].sha256) == 64
    assert PreparedDataset.open(source.parent / "out").read("val", 0).id == "p3"
    assert "seed" not in info.options


def test_every_bad_file_is_named_and_nothing_is_written(source: Path):
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
    assert f"{masks / 'p3.png'} cannot be read: it is empty (0 bytes)" in text
    assert [path.name for path in source.parent.iterdir()] == ["source"]


def test_colour_masks_become_classes_of_their_colours(source: Path):
    palette = np.zeros((256, 3), np.uint8)
    palette[[0, 1]] = [[0, 0, 200], [0, 99, 0]]
    for path in (source / "masks").iterdir():
        Image.fromarray(palette[MASK]).save(path)
    info = _prepare(source, colours={"tree": (0, 99, 0), "sky": (0, 0, 200)}, ignore=["#000000"])
    assert info.colours == ((0, 0, 200), (0, 99, 0))
    assert np.array_equal(decode_label(PreparedDataset.open(source.parent / "out").read("train", 0).label_bytes), MASK)


def test_masks_that_are_all_in_colours_are_refused_before_an_image_is_read(source: Path):
    for path in (source / "masks").iterdir():
        Image.new("RGB", (3, 2)).save(path)
    done: list[tuple[int, int, str]] = []
    with pytest.raises(UserError, match=r"p0\.png is a colour image .* \(--colours\)"):
        _prepare(source, progress=lambda *step: done.append(step))
    assert not done


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["a", ""]}, r"classes\[1\]\.name: the name is empty"),
        ({"classes": [f"c{i}" for i in range(256)]}, "there are 256; at most 255 fit into 8-bit labels"),
        ({"ignore": ["no"]}, "--ignore takes mask values of 0 to 255; got no"),
        ({"ignore": ["256"]}, "--ignore takes mask values of 0 to 255; got 256"),
        ({"ignore": ["0"], "colours": {"sky": (0, 0, 1), "tree": (0, 1, 0)}}, "--ignore takes a colour such as"),
        ({"first_index": 254}, "first index 254 does not fit"),
        ({"first_index": -1}, "first index -1 does not fit"),
        ({"val_fraction": 1.0}, "must be at least 0 and below 1"),
        ({"val_fraction": float("nan")}, "must be at least 0 and below 1"),
        ({"classes": ["Road", "road"]}, '"Road" and "road" are the same words to CLIP'),
    ],
)
def test_options_that_cannot_be(source: Path, options: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        _prepare(source, **options)
    assert [path.name for path in source.parent.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", 'road = "#804080"\ntv = [1, 2, 3]\n'),
        ("c.csv", "road,#804080\ntv,1,2,3\n"),
        ("c.csv", "road, 128, 64, 128\n\n \t\n,,,\ntv, #010203\n"),
        ("c.csv", "name, r, g, b\nroad, 128, 64, 128\ntv, 1, 2, 3\n"),
        ("c.csv", "class,Colour\nroad,#804080\ntv,#010203\n"),
    ],
)
def test_colour_tables(tmp_path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text)
    assert read_colours(path) == {"road": (128, 64, 128), "tv": (1, 2, 3)}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "a,#000000\nb,red\nc,#000000\n", "b: a colour is .*\n  c: the colour is listed more than once"),
        ("c.csv", "", "it holds no colour"),
        ("c.toml", "a = ", "is not valid TOML"),
    ],
)
def test_mistakes_in_colour_tables(tmp_path, name: str, text: str, message: str):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_colours(path)


def test_a_list_that_is_no_text(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"classes\.txt is not a UTF-8 text file"):
        read_lines(path, "list of classes")


def test_the_public_verb_takes_what_lies_in_the_folder(source: Path):
    (source / "classes.txt").write_text("sky\ntree\n")
    info = prepare("folder", str(source), source.parent / "mine", val_fraction=0.4, seed=3)
    assert (info.name, info.classes, info.parts["val"].images) == ("mine", ("sky", "tree"), 2)
    assert prepare("folder", source, source.parent / "two", name="x", classes=["a", "b"]).classes == ("a", "b")
    with pytest.raises(UserError, match=r'There is no kind of source "vocc"\. Did you mean "voc"\?'):
        prepare("vocc", source, source.parent / "out")
    with pytest.raises(UserError, match=r"other is not there; give a folder or an archive"):
        prepare("voc", source / "other", source.parent / "out")


# --- pairs and parts ---


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["b.JPG", "a.jpeg", "notes.txt", ".hidden.png"], {"a": "a.png", "b": "b.png"}),
        (["x/a.jpg"], {"x/a": "x/a.png"}),
        (["a.jpg"], {"a": "a_mask.png"}),
        (["train/a.jpg"], {"train/a": "a_gt.png"}),
        (["a.jpg"], {"a": "deep/er/a_labelTrainIds.png"}),
        (["c/a_leftImg8bit.png"], {"c/a_leftImg8bit": "c/a_gtFine_labelIds.png"}),
        (["day/1.jpg", "night/1.jpg"], {"day/1": "day/1.png", "night/1": "night/1.png"}),
    ],
)
def test_names_match_with_folders_endings_and_roles(tmp_path, images: list[str], masks: dict[str, str]):
    mask_folder = _touch(tmp_path / "m", *masks.values())
    pairs = pair_files(_touch(tmp_path / "i", *images), mask_folder)
    assert {name: pair.mask.container.relative_to(mask_folder).as_posix() for name, pair in pairs.items()} == masks


def test_missing_and_left_over_masks_are_all_named(tmp_path):
    images = _touch(tmp_path / "i", "a.jpg", "b.jpg", "c.jpg")
    masks = _touch(tmp_path / "m", "a.png", "d.png")
    with pytest.raises(UserError) as caught:
        pair_files(images, masks)
    assert str(caught.value).splitlines() == [
        "3 problems were found, of 2 kinds; nothing was written:",
        f"  {images / 'b.jpg'} has no mask in {masks}.",
        "    The same in 1 more: c.jpg.",
        f"  {masks / 'd.png'} has no image in {images}.",
    ]


def test_two_images_of_one_name_are_ambiguous(tmp_path):
    images = _touch(tmp_path / "i", "a.jpg", "a.png", "b.jpg")
    with pytest.raises(UserError, match=r"a\.jpg and a\.png in .* have the same name"):
        pair_files(images, _touch(tmp_path / "m", "a.png", "b.png"))


def test_folders_that_cannot_be_used(tmp_path):
    images = _touch(tmp_path / "i", "a.jpg")
    with pytest.raises(UserError, match=r"The folder of masks, .*none, is not there"):
        pair_files(images, tmp_path / "none")
    with pytest.raises(UserError, match=r"The folder of masks, .*m, holds no image file"):
        pair_files(images, _touch(tmp_path / "m", "a.npy"))
    with pytest.raises(UserError, match="they must be in different folders"):
        pair_files(images, images)


def test_what_cannot_be_read_in_a_folder_is_named(source: Path):
    for what in ("images", "masks"):
        (source / what / "p9.png").symlink_to(source / "gone.png")
    with pytest.raises(UserError, match=r"p9\.png cannot be read: No such file"):
        _prepare(source)
    (source / "images" / "p9.png").unlink()
    os.mkfifo(source / "images" / "p9.png")
    with pytest.raises(UserError, match=r"p9\.png cannot be read: it is a pipe, socket or device"):
        _prepare(source)


def test_names_that_are_no_utf_8(source: Path):
    name = os.fsdecode(b"gr\xfcn")
    (source / "images" / "p1.jpg").rename(source / "images" / f"{name}.jpg")
    (source / "masks" / "p1.png").rename(source / "masks" / f"{name}.png")
    assert _prepare(source, val_fraction=0.0).parts["train"].images == 5
    assert PreparedDataset.open(source.parent / "out").read("train", 0).id == "gr\\xfcn"
    (source / "masks" / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"gr\\xfcn\.png cannot be read"):
        _prepare(source, overwrite=True)


IDS = ["day/1", "day/2", "night/3", "night/4", "night/5"]


def _choose(train: Path | None = None, val: Path | None = None, fraction: float = 0.4, seed: int = 0) -> dict:
    return dict(choose_parts(IDS, train_list=train, val_list=val, val_fraction=fraction, seed=seed))


def _list(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_drawn_fraction_repeats_with_its_seed():
    chosen = _choose()
    assert len(chosen["val"]) == 2
    assert sorted(chosen["train"] + chosen["val"]) == IDS
    assert _choose() == chosen
    assert any(_choose(seed=seed) != chosen for seed in range(1, 5))
    assert _choose(fraction=0.0)["val"] == []
    assert len(_choose(fraction=0.01)["val"]) == 1
    assert len(_choose(fraction=0.99)["train"]) == 1


def test_lists_in_any_spelling(tmp_path):
    val = _list(tmp_path, "val.txt", "night/4.jpg", "1", "", "day/2")
    assert _choose(val=val) == {"train": ["night/3", "night/5"], "val": ["night/4", "day/1", "day/2"]}
    train = _list(tmp_path, "train.txt", "5.png")
    assert _choose(train=train, val=val)["train"] == ["night/5"]
    assert _choose(train=train)["val"] == ["day/1", "day/2", "night/3", "night/4"]
    flat = choose_parts(
        ["a", "b"], train_list=None, val_list=_list(tmp_path, "v", "JPEG/b.jpg"), val_fraction=0, seed=0
    )
    assert flat["val"] == ["b"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\xef\xbb\xbfday/1\r\n\r\nnight/5.JPG\r\n", ["day/1", "night/5"]),
        (b"  day/1.png\t\n\n\n/data/images/night/3.png", ["day/1", "night/3"]),
        (b"./day/2.jpeg\nC:\\photos\\night\\4.tif\n", ["day/2", "night/4"]),
        (b"images/day/1\n../set [12]/day/2.png", ["day/1", "day/2"]),
    ],
)
def test_lists_as_programs_write_them(tmp_path, content: bytes, found: list[str]):
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    assert _choose(path)["train"] == found


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf", b" \r\n\t"])
@pytest.mark.parametrize("which", ["train", "val"])
def test_empty_lists_are_refused(source: Path, which: str, content: bytes):
    path = source / "list.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"list\.txt: the list is empty; write the names of images into it"):
        _prepare(source, **{f"{which}_list": path})
    assert not (source.parent / "out").exists()


@pytest.mark.parametrize("line", ["none/1.jpg", "day/3", "a/day/3.png", "/data/1.jpg", "*", "day/"])
def test_what_a_list_must_not_find(tmp_path, line: str):
    with pytest.raises(UserError, match="is none of the images"):
        _choose(_list(tmp_path, "train.txt", line))


def test_a_list_that_leaves_no_image_for_training_is_told(tmp_path, caplog):
    assert _choose(val=_list(tmp_path, "val.txt", *IDS))["train"] == []
    assert "val.txt names every image: none is left for training" in caplog.text


def test_mistakes_in_lists_are_all_named(tmp_path):
    train = _list(tmp_path, "train.txt", "day/1", "day/1.jpg", "nigth/3")
    val = _list(tmp_path, "val.txt", "1")
    with pytest.raises(UserError) as caught:
        _choose(train, val)
    assert str(caught.value).splitlines() == [
        "3 problems were found; nothing was written:",
        f'  {train}: "day/1.jpg" is listed more than once.',
        f'  {train}: "nigth/3" is none of the images. Did you mean "night/3" or "night/5" or "night/4"?',
        '  "day/1" is in both lists, for training and for validation.',
    ]
    with pytest.raises(UserError, match=r"none\.txt cannot be read"):
        _choose(tmp_path / "none.txt")


def test_folders_named_train_and_val_are_the_parts(tmp_path):
    """They may be links, in which a circle ends."""
    source = tmp_path / "linked"
    _write_pairs(tmp_path / "real", "train/a", "train/b", "train/c", "val/d")
    for what in ("images", "masks"):
        (source / what).mkdir(parents=True)
        for part in ("train", "val"):
            (source / what / part).symlink_to(tmp_path / "real" / what / part)
        (source / what / "train" / "up").symlink_to(source / what, target_is_directory=True)
    places = {"images": source / "images", "masks": source / "masks"}
    info = prepare_folder(tmp_path / "out", name="x", classes=["a", "b"], val_fraction=0.5, **places)
    assert {part: content.images for part, content in info.parts.items()} == {"train": 3, "val": 1}


def _write_pairs(folder: Path, *names: str) -> None:
    write_own_images(folder, names, lambda _: (np.zeros((2, 3, 3), np.uint8), MASK))


def _parts(folder: Path, *names: str, **options: object) -> dict[str, list[str]]:
    _write_pairs(folder, *names)
    places = {"images": folder / "images", "masks": folder / "masks"}
    prepare_folder(folder / "out", name="x", classes=["a", "b"], **places, **options)  # type: ignore[arg-type]
    dataset = PreparedDataset.open(folder / "out")
    return {part: [dataset.read(part, at).id for at in range(dataset.count(part))] for part in ("train", "val")}


def test_a_folder_test_is_no_part_and_is_said_to_be_left_out(tmp_path, caplog):
    found = _parts(tmp_path / "three", "train2017/a", "train2017/b", "Val_images/c", "test/d", "test/e")
    assert found == {"train": ["train2017/a", "train2017/b"], "val": ["Val_images/c"]}
    assert "Left out: 2 images of the folder for tests." in caplog.text
    assert "test/c" not in _parts(tmp_path / "two", "train/a", "train/b", "test/c")["train"]
    with pytest.raises(UserError, match='1 image in none of them, as "extra"'):
        _parts(tmp_path / "four", "train/a", "val/b", "extra")
    _write_pairs(tmp_path / "five", "test/c")
    (tmp_path / "five" / "masks" / "test" / "c.png").unlink()
    assert _parts(tmp_path / "five", "train/a", "val/b") == {"train": ["train/a"], "val": ["val/b"]}
    assert "Left out of the folder for tests: 1 image without a mask." in caplog.text


def test_what_systems_leave_is_no_image_and_both_unicode_forms_are_one_name(tmp_path):
    for left in (".ipynb_checkpoints/a.png", "__MACOSX/b.png", "._a.png"):
        (tmp_path / "images" / left).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / left).write_bytes(b"no image")
    composed, decomposed = "B\u00e4ume", "Ba\u0308ume"
    _write_pairs(tmp_path, "a", composed)
    (tmp_path / "masks" / f"{composed}.png").rename(tmp_path / "masks" / f"{decomposed}.png")
    found = _parts(tmp_path, val_list=_list(tmp_path, "val.txt", f"{decomposed}.png"))
    assert found == {"train": ["a"], "val": [composed]}
