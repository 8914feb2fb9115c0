"""A miniature VOC 2010 with PASCAL Context's labels in all encodings and both class orders, and what may be wrong."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from official_miniatures import (
    context_annotation,
    pack,
    write_context_images,
    write_context_json,
    write_context_masks,
    write_context_mats,
    write_lines,
)
from prepared_folder import by_id, ids

from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.preparation import context_labels
from cascade_clip.preparation import prepare_context as module
from cascade_clip.preparation.context_labels import CONTEXT_IDS, VOC_FIRST, ClassOrder
from cascade_clip.preparation.prepare_context import prepare_context
from cascade_clip.preparation.prepare_dataset import prepare

A, B, V = "2008_000002", "2008_000003", "2008_000007"
SIZE = (90, 160)


def _cells(rows: Sequence[Sequence[int]], kind: type[np.unsignedinteger[Any]] = np.uint8) -> Any:
    """An image of 3 x 4 cells of 30 x 40 pixels."""
    return np.kron(np.array(rows, kind), np.ones((30, 40), kind))


# The same images by hand in every numbering: ids of the 459 classes (1 and 430 are none of the 59) ...
IDS = {
    A: _cells([[0, 2, 9, 458], [430, 284, 397, 19], [416, 65, 326, 1]], np.uint16),
    B: _cells([[105, 220, 144, 295], [65, 308, 347, 427], [2, 454, 454, 454]], np.uint16),
    V: _cells([[98, 258, 368, 31], [25, 23, 0, 0], [360, 445, 187, 440]], np.uint16),
}
# ... labels ...
LABELS = {
    A: _cells([[255, 0, 1, 58], [255, 36, 49, 3], [51, 14, 41, 255]]),
    B: _cells([[21, 31, 24, 37], [14, 39, 42, 54], [0, 57, 57, 57]]),
    V: _cells([[19, 33, 48, 7], [6, 5, 255, 255], [46, 56, 28, 55]]),
}
# ... masks in alphabetical order from 1 ...
ALPHABETICAL = {
    A: _cells([[0, 1, 2, 59], [0, 37, 50, 4], [52, 15, 42, 0]]),
    B: _cells([[22, 32, 25, 38], [15, 40, 43, 55], [1, 58, 58, 58]]),
    V: _cells([[20, 34, 49, 8], [7, 6, 0, 0], [47, 57, 29, 56]]),
}
# ... those of the official 59_labels.txt ...
VOC_CLASSES_FIRST = {
    A: _cells([[0, 1, 21, 59], [0, 15, 11, 52], [19, 8, 47, 0]]),
    B: _cells([[42, 38, 32, 45], [8, 16, 17, 20], [1, 58, 58, 58]]),
    V: _cells([[10, 14, 18, 4], [3, 2, 0, 0], [50, 57, 36, 56]]),
}
# ... and VOC's own masks, which only some images have; 0 is background and 255 border.
VOC = {
    A: _cells([[0, 1, 0, 0], [0, 15, 11, 0], [19, 8, 0, 255]]),
    B: _cells([[0, 0, 0, 0], [8, 16, 17, 20], [1, 0, 0, 0]]),
}
PARTS = {"train": [A, B], "val": [V]}


@pytest.fixture(autouse=True)
def miniature_counts(monkeypatch) -> None:
    monkeypatch.setattr(module, "_COUNTS", {"train": 2, "val": 1})


def _images(folder: Path, voc: Mapping[str, Any] = VOC) -> Path:
    """The folder VOC2010."""
    sizes = {part: dict.fromkeys(stems, SIZE) for part, stems in PARTS.items()}
    return write_context_images(folder, train=sizes["train"], val=sizes["val"], voc=voc) / "VOC2010"


def _json(path: Path, ids: Mapping[str, Any] = IDS) -> Path:
    return write_context_json(path, train={A: ids[A], B: ids[B]}, val={V: ids[V]})


def _check(folder: Path) -> None:
    """The prepared labels are those drawn by hand, pixel for pixel, in the right part and order."""
    assert ids(folder) == PARTS
    _equal(folder, LABELS)


def _equal(folder: Path, expected: Mapping[str, Any]) -> None:
    for stem, label in by_id(folder).items():
        np.testing.assert_array_equal(label, expected[stem], err_msg=stem)


def _as_json(folder: Path) -> Path:
    return _json(folder / "trainval_merged.json").parent


def _as_mats(folder: Path) -> Path:
    return write_context_mats(folder, IDS).parent


def _as_masks(folder: Path) -> Path:
    return write_context_masks(folder / "SegmentationClassContext", ALPHABETICAL).parent


@pytest.mark.parametrize(
    ("write", "options"),
    [
        (_as_json, {"labels": "json", "split": "phase in trainval_merged.json"}),
        (_as_mats, {"labels": "mat", "split": "VOC2010/ImageSets/Main"}),
        (
            _as_masks,
            {
                "labels": "png",
                "split": "VOC2010/ImageSets/Main",
                "class_order": "alphabetical",
                "first_index": 1,
                "class_order_told_by": "VOC's own masks",
            },
        ),
    ],
)
def test_every_encoding_gives_the_labels_drawn_by_hand(
    tmp_path, write: Callable[[Path], Path], options: dict[str, Any]
):
    write(_images(tmp_path / "source"))
    info = prepare_context(tmp_path / "out", source=tmp_path / "source")
    _check(tmp_path / "out")
    assert (info.name, info.classes) == ("context", get_split("context").class_names)
    counts = {"from": "context", "subset": None, "train_images": 2, "val_images": 1}
    assert info.options == counts | options


@pytest.mark.parametrize("write", [_as_json, _as_mats, _as_masks])
def test_everything_else_is_background_in_every_encoding(tmp_path, write: Callable[[Path], Path]):
    write(_images(tmp_path / "source"))
    info = prepare("context-background", tmp_path / "source", tmp_path / "out")
    assert (info.name, info.options["from"]) == ("context-background", "context-background")
    assert info.classes == get_split("context-background").class_names
    assert ids(tmp_path / "out") == PARTS
    _equal(tmp_path / "out", ALPHABETICAL)


@pytest.mark.parametrize("order", ["alphabetical", "voc-first"])
def test_converted_masks_from_zero_have_a_background_of_255(tmp_path, order: ClassOrder):
    masks = ALPHABETICAL if order == "alphabetical" else VOC_CLASSES_FIRST
    folder = write_context_masks(tmp_path / "masks", _reduced(masks))
    options = {"annotations": folder, "class_order": order, "background": True}
    prepare_context(tmp_path / "out", source=_images(tmp_path / "source"), **options)
    _equal(tmp_path / "out", ALPHABETICAL)


def test_archives_as_they_are_published_are_read_without_unpacking(tmp_path):
    source = tmp_path / "downloads"
    pack(_images(tmp_path / "raw").parent, source / "VOCtrainval_03-May-2010.tar")
    pack(write_context_mats(tmp_path / "raw", IDS), source / "trainval.tar.gz")
    info = prepare_context(tmp_path / "out", source=source)
    _check(tmp_path / "out")
    names = [file.name for file in info.sources]
    assert names == ["VOCtrainval_03-May-2010.tar", "trainval.tar.gz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["downloads", "out", "raw"], "no spooled file may stay"


def test_annotations_are_looked_for_where_they_were_named_and_only_there(tmp_path):
    images = _images(tmp_path / "source")
    _as_json(images)
    mats = _as_mats(tmp_path / "labels")
    assert prepare_context(tmp_path / "mat", source=images, annotations=mats).options["labels"] == "mat"
    other = _json(tmp_path / "mine.json")
    assert prepare_context(tmp_path / "json", source=images, annotations=other).options["labels"] == "json"
    masks = write_context_masks(tmp_path / "any_name", ALPHABETICAL)
    info = prepare_context(tmp_path / "png", source=images, annotations=masks)
    assert info.options["labels"] == "png"
    for kind in ("mat", "json", "png"):
        _check(tmp_path / kind)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"labels of PASCAL Context were not found in .*empty: .*--annotations"):
        prepare_context(tmp_path / "out", source=images, annotations=tmp_path / "empty")


def test_ids_and_names_are_those_of_the_class_list(golden: Path):
    names = get_split("context").class_names
    assert tuple(CONTEXT_IDS) == names
    assert list(CONTEXT_IDS.values()) == sorted(CONTEXT_IDS.values()), "the full list is alphabetical"
    splits = json.loads((golden / "splits.json").read_text())
    assert list(names) == splits["context_59"]["classes"]
    assert sorted(VOC_FIRST) == sorted(names)
    voc = [name.replace("diningtable", "table") for name in get_split("voc").class_names]
    assert list(VOC_FIRST[:20]) == voc


def test_the_released_unseen_indices_were_written_for_the_voc_first_order(golden: Path):
    indices = json.loads((golden / "splits.json").read_text())["context_59"]["unseen_idx"]
    assert {VOC_FIRST[index] for index in indices} == get_split("context-seen").unseen
    names = get_split("context").class_names
    assert {names[index] for index in indices} == get_split("context-released-seen").unseen


# --- converted masks --------------------------------------------------------------------------------------------------


def _reduced(masks: Mapping[str, Any]) -> dict[str, Any]:
    """0..58 and 255, as after mmsegmentation's reduce_zero_label."""
    return {stem: (mask - np.uint8(1)) for stem, mask in masks.items()}


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    ("folder", "order", "given"),
    [
        ("SegmentationClassContext", "alphabetical", None),
        ("SegmentationClassContext", "alphabetical", "alphabetical"),
        ("SegmentationClassContext", "voc-first", "voc-first"),
        ("59_context_labels", "voc-first", None),
    ],
)
def test_both_orders_and_starts_are_converted(tmp_path, folder: str, order: str, given: ClassOrder | None, first: int):
    images = _images(tmp_path / "source")
    masks = VOC_CLASSES_FIRST if order == "voc-first" else ALPHABETICAL
    write_context_masks(images / folder, masks if first else _reduced(masks))
    info = prepare_context(tmp_path / "out", source=images, class_order=given)
    _check(tmp_path / "out")
    told = {key: info.options[key] for key in ("class_order", "first_index", "class_order_told_by")}
    assert told == {"class_order": order, "first_index": first, "class_order_told_by": "VOC's own masks"}


_TOO_HIGH = {stem: mask + np.uint8(7) for stem, mask in ALPHABETICAL.items()}
_MIXED = {A: ALPHABETICAL[A], B: VOC_CLASSES_FIRST[B], V: ALPHABETICAL[V]}


@pytest.mark.parametrize(
    ("masks", "given", "message"),
    [
        (VOC_CLASSES_FIRST, None, r"alphabetical: .* 0 .* alphabetical, 2 .* voc-first\. Give --class-order voc-first"),
        (ALPHABETICAL, "voc-first", r"voc-first: .* 0 agree in the order voc-first, 2 .* alphabetical\. Give --cl"),
        (_MIXED, "voc-first", r".* of 2 images compared with VOC's own masks, 1 agree .*-first, 1 .* one conversion"),
        (_TOO_HIGH, None, r".* 0 .* alphabetical, 0 .* voc-first\. Give a f"),
    ],
)
def test_an_order_that_the_masks_contradict_is_refused_with_both_figures(
    tmp_path, masks: Mapping[str, Any], given: ClassOrder | None, message: str
):
    images = _images(tmp_path / "source")
    write_context_masks(images / "SegmentationClassContext", masks)
    with pytest.raises(UserError, match=rf"The masks in .*SegmentationClassContext are not in the order {message}"):
        prepare_context(tmp_path / "out", source=images, class_order=given)
    assert not (tmp_path / "out").exists()


def test_masks_of_33_classes_are_refused(tmp_path, monkeypatch):
    images = _images(tmp_path / "source")
    of_33 = {stem: np.where(mask > 33, 0, mask).astype(np.uint8) for stem, mask in VOC_CLASSES_FIRST.items()}
    write_context_masks(images / "SegmentationClassContext", of_33)
    monkeypatch.setattr(context_labels, "_ENOUGH_TO_TELL", 2)
    with pytest.raises(UserError, match=r"no value above 32 in 2 images: they are those of the 33 classes"):
        prepare_context(tmp_path / "out", source=images, class_order="voc-first")


def test_classes_that_have_the_same_number_in_both_orders_tell_nothing(tmp_path):
    aeroplanes = np.ones(SIZE, np.uint8)
    images = _images(tmp_path / "source", voc={A: aeroplanes})
    write_context_masks(images / "SegmentationClassContext", {**VOC_CLASSES_FIRST, A: aeroplanes})
    with pytest.raises(UserError, match=r"is not clear: .*agree with both .* Give --class-order alpha"):
        prepare_context(tmp_path / "out", source=images)
    info = prepare_context(tmp_path / "out", source=images, class_order="voc-first")
    assert (info.options["class_order_told_by"], info.options["first_index"]) == ("class_order", 1)


def test_without_masks_of_voc_converted_masks_are_refused(tmp_path):
    images = _images(tmp_path / "source", voc={})
    write_context_masks(images / "SegmentationClassContext", ALPHABETICAL)
    with pytest.raises(UserError, match=r"cannot be checked: VOC's own masks cover none .* SegmentationClass of"):
        prepare_context(tmp_path / "out", source=images, class_order="alphabetical")


def test_a_value_that_is_no_class_is_named_with_its_file(tmp_path):
    images = _images(tmp_path / "source")
    wrong = ALPHABETICAL[V].copy()
    wrong[0, :2] = 60, 200
    write_context_masks(images / "SegmentationClassContext", {**ALPHABETICAL, V: wrong})
    with pytest.raises(UserError, match=rf"{V}\.png holds the values 60, 200, .* from 1 to 59, and 255"):
        prepare_context(tmp_path / "out", source=images)


def test_vocs_own_masks_are_never_taken_for_labels(tmp_path):
    images = _images(tmp_path / "source")
    with pytest.raises(UserError, match=r"labels of PASCAL Context were not found"):
        prepare_context(tmp_path / "out", source=images, annotations=images / "SegmentationClass")


@pytest.mark.parametrize("write", [_as_json, _as_mats])
def test_a_class_order_means_nothing_without_converted_masks(tmp_path, write: Callable[[Path], Path]):
    images = _images(tmp_path / "source")
    write(images)
    with pytest.raises(UserError, match=r"--class-order voc-first says how converted masks .* Leave it out, or give"):
        prepare_context(tmp_path / "out", source=images, class_order="voc-first")


# --- the split --------------------------------------------------------------------------------------------------------


def test_lists_made_for_context_win_over_vocs(tmp_path):
    images = _images(tmp_path / "source")
    labels = _as_mats(tmp_path / "labels")
    write_lines(labels / "ImageSets" / "SegmentationContext" / "train.txt", [V, A])
    write_lines(labels / "ImageSets" / "SegmentationContext" / "val.txt", [B])
    info = prepare_context(tmp_path / "out", source=images, annotations=labels)
    assert ids(tmp_path / "out") == {"train": [A, V], "val": [B]}
    assert info.options["split"] == "ImageSets/SegmentationContext"
    assert [file.name for file in info.sources] == ["train.txt", "val.txt"]


def test_an_image_in_both_lists_and_lists_that_are_not_there(tmp_path):
    images = _as_mats(_images(tmp_path / "source"))
    main = images / "ImageSets" / "Main"
    write_lines(main / "val.txt", [V, A])
    with pytest.raises(UserError, match=rf"train\.txt and .*val\.txt both name the image {A}"):
        prepare_context(tmp_path / "out", source=images)
    (main / "val.txt").unlink()
    with pytest.raises(UserError, match=r"The split of PASCAL Context was not found in .*SegmentationContext"):
        prepare_context(tmp_path / "out", source=images)


def test_other_counts_are_an_error_that_knows_the_5104(tmp_path, monkeypatch):
    images = _as_json(_images(tmp_path / "source"))
    monkeypatch.setattr(module, "_COUNTS", {"train": 4998, "val": 5105})
    message = (
        r"phase in trainval_merged\.json gives 2 training and 1 validation images; published are 4,998 and 5,105\. "
        r"\(A validation list of 5,104 circulates.*--subset"
    )
    with pytest.raises(UserError, match=message):
        prepare_context(tmp_path / "out", source=images)
    info = prepare_context(tmp_path / "out", source=images, subset=1)
    assert (info.options["train_images"], info.options["val_images"], info.options["subset"]) == (1, 1, 1)
    assert ids(tmp_path / "out") == {"train": [A], "val": [V]}


# --- what may be broken -----------------------------------------------------------------------------------------------


def test_missing_images_and_labels_are_all_named(tmp_path):
    images = _as_mats(_images(tmp_path / "source"))
    (images / "JPEGImages" / f"{A}.jpg").unlink()
    (images / "trainval" / f"{B}.mat").unlink()
    message = (
        rf"2 problems were found; nothing .*\n.*JPEGImages/{A}\.jpg is missing\.\n.*trainval has no label of .*{B}\."
    )
    with pytest.raises(UserError, match=message):
        prepare_context(tmp_path / "out", source=images)
    with pytest.raises(UserError, match=r"VOC 2010 was not found in .*labels: .*Give VOCtrainval_03-May-2010\.tar"):
        prepare_context(tmp_path / "out", source=_as_mats(tmp_path / "labels"))


def _edited(images: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    file = _json(images / "trainval_merged.json")
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    return images


def test_the_annotation_that_stands_last_covers_the_others(tmp_path):
    region = np.zeros(SIZE, bool)
    region[10:50, 20:100] = True

    def cover(content: dict[str, Any]) -> None:
        image_id = int(V.replace("_", ""))
        content["annos_segmentation"] += [
            context_annotation(98, image_id, 284, region),
            context_annotation(99, image_id, 1, region & (np.arange(160) < 60)),
        ]

    prepare_context(tmp_path / "out", source=_edited(_images(tmp_path / "source"), cover))
    expected = LABELS[V].copy()
    expected[10:50, 60:100] = 36
    expected[10:50, 20:60] = 255
    np.testing.assert_array_equal(by_id(tmp_path / "out")[V], expected)


def test_plain_run_lengths_and_images_without_annotations(tmp_path):
    runs = {"size": list(SIZE), "counts": [90 * 3 + 5, 7, 90 * 157 - 12]}
    only = {"image_id": int(V.replace("_", "")), "category_id": 440, "segmentation": runs}
    images = _edited(_images(tmp_path / "source"), lambda content: content.update(annos_segmentation=[only]))
    prepare_context(tmp_path / "out", source=images)
    expected = np.full(SIZE, 255, np.uint8)
    expected[5:12, 3] = 55
    np.testing.assert_array_equal(by_id(tmp_path / "out")[V], expected)
    assert (by_id(tmp_path / "out")[A] == 255).all()


def test_annotations_of_images_that_are_not_listed_are_passed_over(tmp_path):
    other = context_annotation(99, 2007000001, 284, np.ones((5, 4), bool))
    images = _edited(_images(tmp_path / "source"), lambda content: content["annos_segmentation"].append(other))
    prepare_context(tmp_path / "out", source=images)
    _check(tmp_path / "out")


@pytest.mark.parametrize(
    "counts",
    ["", "~~~", "é", "0o", lambda counts: counts[:-1], lambda counts: counts + "1", [9, 2], [1, -1, 14400], [2**40]],
)
def test_damaged_run_lengths_are_named(tmp_path, counts: Any):
    """pycocotools itself would fill what is missing with whatever the memory held."""

    def damage(content: dict[str, Any]) -> None:
        segmentation = content["annos_segmentation"][0]["segmentation"]
        segmentation["counts"] = counts(segmentation["counts"]) if callable(counts) else counts

    images = _edited(_images(tmp_path / "source"), damage)
    message = rf"trainval_merged\.json, image {A}\.jpg: annotation 0 of category 1 is damaged \(.+\)\. Fetch the file"
    with pytest.raises(UserError, match=message):
        prepare_context(tmp_path / "out", source=images)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("write", "package"), [(_as_json, "pycocotools"), (_as_mats, "scipy")])
def test_without_the_extra_the_way_out_is_named(tmp_path, monkeypatch, write: Callable[[Path], Path], package: str):
    images = write(_images(tmp_path / "source"))
    for name in ("pycocotools.mask", "scipy.io.matlab"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"^The labels in .* need {package}: pip install 'cascade-clip\[data\]'"):
        prepare_context(tmp_path / "out", source=images)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["images"][0].update(phase="test"), r"images\[0\]\.phase: Input should be 'train' or 'val'"),
        (
            lambda c: c["annos_segmentation"][2].update(category_id=460),
            r"annos_segmentation\[2\]\.category_id: Input should be less than or equal to 459",
        ),
        (
            lambda c: [annotation.update(image_id=7) for annotation in c["annos_segmentation"][:11]],
            rf"names 1 image not listed in images \(7\), while 1 of those there have no annotation \({A}\.jpg\)",
        ),
        (
            lambda c: c["annos_segmentation"][1]["segmentation"].update(size=[160, 90]),
            rf"\[1\] has 90 x 160 pixels, its image {A}\.jpg 160 x 90",
        ),
        (lambda c: c["images"].append(c["images"][0]), rf"the image {A} is listed 2 times"),
        (lambda c: c["images"][1].update(image_id=c["images"][0]["image_id"]), r"the image \d+ is listed 2 times"),
        (lambda c: c.pop("images"), r"is no annotation of PASCAL Context as published \(images: Field required\)"),
    ],
)
def test_a_wrong_json_is_told_with_the_place(tmp_path, edit: Callable[[dict[str, Any]], object], message: str):
    images = _edited(_images(tmp_path / "source"), edit)
    with pytest.raises(UserError, match=message) as caught:
        prepare_context(tmp_path / "out", source=images)
    assert "trainval_merged.json" in str(caught.value)
