"""A miniature COCO-Stuff in the true encoding: 182 values with gaps, as zips, as folders, and converted."""

from pathlib import Path

import numpy as np
import pytest
from official_miniatures import COCO_LAYOUTS, COCO_VALUES, drawn_mask, set_counts, write_coco
from PIL import Image
from prepared_folder import by_id, digests

from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.preparation.prepare_coco import prepare_coco, read_coco_mask, read_object_mask
from cascade_clip.preparation.prepare_dataset import prepare
from cascade_clip.preparation.source_tree import Entry

# Value in the published masks (number in labels.txt minus one) and label, written down by hand: at both sides of every
# gap, at the ends, and the unseen ones.
# fmt: off
BY_HAND = {
    "person": (0, 0), "fire hydrant": (10, 10), "stop sign": (12, 11), "cow": (20, 19), "giraffe": (24, 23),
    "backpack": (26, 24), "umbrella": (27, 25), "handbag": (30, 26), "suitcase": (32, 28), "frisbee": (33, 29),
    "skateboard": (40, 36), "bottle": (43, 39), "wine glass": (45, 40), "carrot": (56, 51), "bed": (64, 59),
    "dining table": (66, 60), "toilet": (69, 61), "tv": (71, 62), "refrigerator": (81, 72), "book": (83, 73),
    "scissors": (86, 76), "toothbrush": (89, 79), "banner": (91, 80), "cardboard": (99, 88), "clouds": (105, 94),
    "grass": (123, 112), "playingfield": (144, 133), "river": (147, 136), "road": (148, 137), "tree": (168, 157),
    "wall-concrete": (171, 160), "wood": (181, 170),
}
# fmt: on

EVERY_VALUE = np.array([*COCO_VALUES, 255], np.uint8).reshape(4, 43).repeat(6, axis=0).repeat(3, axis=1)
TRAIN = {
    "000000000009": EVERY_VALUE,
    "000000000025": drawn_mask(1, [0, 20, 171, 255]),
    "000000000030": drawn_mask(2, [156, 123, 24], (50, 40)),
    "000000000034": drawn_mask(3, [181, 12, 90 - 1, 255]),
}
VAL = {"000000000139": drawn_mask(4, [64, 71, 83, 180]), "000000000285": drawn_mask(5, [22, 123, 255])}
MODES = {"000000000025": "L", "000000000030": "CMYK"}


@pytest.fixture(autouse=True)
def miniature_counts(monkeypatch) -> None:
    for name in ("coco", "coco-object"):
        set_counts(monkeypatch, name, train=len(TRAIN), val=len(VAL))


def _write(folder: Path, layout: str = "README") -> Path:
    return write_coco(folder, train=TRAIN, val=VAL, layout=layout, modes=MODES)


def _check(folder: Path) -> None:
    """The prepared labels are those of the masks, pixel for pixel."""
    found = by_id(folder)
    for stem, mask in (TRAIN | VAL).items():
        assert np.array_equal(found[stem], _expected(mask))


def _expected(mask: np.ndarray) -> np.ndarray:
    label_of = {value: label for label, value in enumerate(COCO_VALUES)} | {255: 255}
    return np.vectorize(label_of.get)(mask)


def _replace_pair(source: Path, mask: Image.Image) -> Path:
    """Put a mask, and an image of its size, in the place of the first ones."""
    path = source / "annotations" / "train2017" / "000000000009.png"
    mask.save(path)
    Image.new("RGB", mask.size).save(source / "images" / "train2017" / "000000000009.jpg")
    return path


def test_values_written_by_hand_belong_to_the_class_of_that_name(tmp_path):
    names = get_split("coco").class_names
    assert {name: names[label] for name, (_, label) in BY_HAND.items()} == {name: name for name in BY_HAND}
    values, by_hand = zip(*BY_HAND.values(), strict=True)
    source = _write(tmp_path / "source")
    _replace_pair(source, Image.fromarray(np.array([[*values, 255]], np.uint8)))
    prepare_coco(tmp_path / "out", source=source, subset=1)
    assert by_id(tmp_path / "out")["000000000009"].tolist() == [[*by_hand, 255]]


def test_zips_are_prepared_pixel_for_pixel(tmp_path):
    source = _write(tmp_path / "source", "zips")
    info = prepare_coco(tmp_path / "out", source=source)
    assert (info.name, info.classes, info.colours) == ("coco", get_split("coco").class_names, get_split("coco").colours)
    assert info.options == {"from": "coco", "subset": None}
    assert [file.name for file in info.sources] == sorted(path.name for path in source.iterdir())
    assert {part: content.images for part, content in info.parts.items()} == {"train": 4, "val": 2}
    assert all(info.parts["train"].pixels)
    assert list(by_id(tmp_path / "out")) == [*TRAIN, *VAL]
    _check(tmp_path / "out")


@pytest.mark.parametrize("layout", [name for name in COCO_LAYOUTS if name != "zips"])
def test_every_layout_gives_the_bytes_that_the_zips_give(tmp_path, layout: str):
    prepare_coco(tmp_path / "zips", source=_write(tmp_path / "a", "zips"))
    prepare_coco(tmp_path / "other", source=_write(tmp_path / "b", layout))
    assert len(digests(tmp_path / "zips", "data/*")) == 2
    assert digests(tmp_path / "other", "data/*") == digests(tmp_path / "zips", "data/*")


def _write_sevens(folder: Path, ending: str = "") -> None:
    """Masks that are 7 everywhere, which shows up where they are taken."""
    for part, masks in (("train", TRAIN), ("val", VAL)):
        (folder / f"{part}2017").mkdir(parents=True, exist_ok=True)
        for stem, mask in masks.items():
            Image.fromarray(np.full_like(mask, 7)).save(folder / f"{part}2017" / f"{stem}{ending}.png")


@pytest.mark.parametrize(
    ("layout", "folder", "ending"),
    [
        # Published masks win over converted ones, wherever either lie ...
        ("README", "annotations", "_labelTrainIds"),
        ("README", "stuffthingmaps", "_labelTrainIds"),
        ("zips", "annotations", "_labelTrainIds"),
        # ... and those of other programs are passed over.
        ("README", "annotations_detectron2", ""),
        ("stuffthingmaps", "annotations_detectron2", ""),
        ("converted", "annotations_detectron2", ""),
    ],
)
def test_other_masks_beside_the_published_ones_are_not_taken(tmp_path, layout: str, folder: str, ending: str):
    source = _write(tmp_path / "source", layout)
    _write_sevens(source / folder, ending)
    prepare_coco(tmp_path / "out", source=source)
    _check(tmp_path / "out")


def test_every_value_is_a_class_or_unlabelled_or_an_error(tmp_path):
    path = tmp_path / "000000000009.png"
    Image.fromarray(EVERY_VALUE).save(path)
    assert np.array_equal(read_coco_mask(Entry.of(path)), _expected(EVERY_VALUE))
    for value in set(range(255)) - {*COCO_VALUES}:
        Image.fromarray(np.array([[value]], np.uint8)).save(path)
        with pytest.raises(UserError, match=rf"000000000009\.png holds the value {value}, "):
            read_coco_mask(Entry.of(path))


def test_files_without_a_partner_are_all_named(tmp_path):
    source = _write(tmp_path / "source")
    (source / "annotations" / "train2017" / "000000000025.png").unlink()
    (source / "images" / "val2017" / "000000000285.jpg").unlink()
    with pytest.raises(UserError) as caught:
        prepare_coco(tmp_path / "out", source=source)
    assert str(caught.value).splitlines() == [
        "2 problems were found; nothing was written:",
        f"  {source / 'images' / 'train2017' / '000000000025.jpg'} has no mask 000000000025.png.",
        f"  {source / 'annotations' / 'val2017' / '000000000285.png'} has no image 000000000285.jpg.",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("layout", ["zips", "README"])
def test_what_is_missing_altogether_is_named_with_its_archive(tmp_path, layout: str):
    source = write_coco(tmp_path / "source", train=TRAIN, val={}, layout=layout)
    with pytest.raises(UserError) as caught:
        prepare_coco(tmp_path / "out", source=source)
    assert str(caught.value) == (
        f"COCO-Stuff 164K is not complete in {source}: there are no images of val2017 (val2017.zip), no masks of "
        "val2017 (stuffthingmaps_trainval2017.zip). Put the official zips there, or what they unpack to."
    )


# --- COCO-Object ------------------------------------------------------------------------------------------------------

# Value in the published masks and label, written down by hand: the first and last thing, both sides of gaps, stuff.
# fmt: off
OBJECTS = {
    "person": (0, 1), "bicycle": (1, 2), "fire hydrant": (10, 11), "stop sign": (12, 12), "giraffe": (24, 24),
    "backpack": (26, 25), "handbag": (30, 27), "suitcase": (32, 29), "bottle": (43, 40), "wine glass": (45, 41),
    "bed": (64, 60), "dining table": (66, 61), "toilet": (69, 62), "tv": (71, 63), "refrigerator": (81, 73),
    "book": (83, 74), "toothbrush": (89, 80),
}
# fmt: on
STUFF = (91, 99, 123, 171, 181, 255)


def _expected_objects(mask: np.ndarray) -> np.ndarray:
    label_of = dict.fromkeys([*COCO_VALUES, 255], 0) | {value: rank for rank, value in enumerate(COCO_VALUES[:80], 1)}
    return np.vectorize(label_of.get)(mask)


def test_things_are_objects_and_all_else_is_background(tmp_path):
    names = get_split("coco-object").class_names
    values, by_hand = zip(*OBJECTS.values(), strict=True)
    assert [names[label] for label in by_hand] == list(OBJECTS)
    source = _write(tmp_path / "source")
    _replace_pair(source, Image.fromarray(np.array([[*values, *STUFF]], np.uint8)))
    prepare("coco-object", source, tmp_path / "out", subset=1)
    assert by_id(tmp_path / "out")["000000000009"].tolist() == [[*by_hand, *(0 for _ in STUFF)]]


@pytest.mark.parametrize("layout", ["zips", "converted"])
def test_objects_are_prepared_pixel_for_pixel_from_every_layout(tmp_path, layout: str):
    info = prepare("coco-object", _write(tmp_path / "source", layout), tmp_path / "out")
    assert (info.name, info.classes) == ("coco-object", get_split("coco-object").class_names)
    assert info.options == {"from": "coco-object", "subset": None}
    assert {content.ignored_pixels for content in info.parts.values()} == {0}
    found = by_id(tmp_path / "out")
    for stem, mask in (TRAIN | VAL).items():
        assert np.array_equal(found[stem], _expected_objects(mask))


def _write_objects(source: Path, *, keep: bool) -> None:
    """Write masks of the 81 classes as released converters name them, beside the published ones or in their place."""
    for part, masks in (("train", TRAIN), ("val", VAL)):
        folder = source / "annotations" / f"{part}2017"
        for stem, mask in masks.items():
            converted = _expected_objects(mask).astype(np.uint8)
            Image.fromarray(converted).save(folder / f"{stem}_instanceTrainIds.png")
            if not keep:
                (folder / f"{stem}.png").unlink()


@pytest.mark.parametrize("keep", [True, False])
def test_converted_objects_are_read_where_there_are_no_published_masks(tmp_path, keep: bool):
    source = _write(tmp_path / "source")
    prepare("coco-object", source, tmp_path / "expected")
    _write_objects(source, keep=keep)
    prepare("coco-object", source, tmp_path / "out")
    assert digests(tmp_path / "out", "data/*") == digests(tmp_path / "expected", "data/*")


@pytest.mark.parametrize("value", [81, 255])
def test_a_converted_object_mask_with_another_value_is_named(tmp_path, value: int):
    path = tmp_path / "000000000009_instanceTrainIds.png"
    Image.fromarray(np.array([[80, value]], np.uint8)).save(path)
    with pytest.raises(UserError, match=rf"holds the value {value}, .*hold 0 to 80, and no pixel is ignored"):
        read_object_mask(Entry.of(path))
