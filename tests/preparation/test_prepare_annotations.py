"""Annotations of other tools become labels: each form read back pixel for pixel, and what is wrong with one named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from cascade_clip.data.images import decode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.labels import IGNORED, LabelMap
from cascade_clip.preparation import annotations
from cascade_clip.preparation.prepare_annotations import prepare_annotations
from cascade_clip.report.mask_formats import MASK_FORMATS

SIZE = (24, 32)
CLASSES = ("sky", "tree", "road")


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, stem in enumerate(("a", "b", "c")):
        Image.new("RGB", SIZE[::-1], (40 * number, 90, 20)).save(folder / f"{stem}.png")
    return folder


def drawn(number: int) -> LabelMap:
    labels = np.full(SIZE, IGNORED, np.uint8)
    labels[2:20, 3:25] = 2
    labels[6 + number : 12 + number, 8:14] = 1
    labels[20:22, 26:30] = 0
    return labels


def labels_of(folder: Path) -> dict[str, LabelMap]:
    dataset = PreparedDataset.open(folder)
    found = {}
    for part in ("train", "val"):
        for index in range(dataset.count(part)):
            record = dataset.read(part, index)
            found[record.id] = decode_label(record.label_bytes, record.id)
    return found


@pytest.mark.parametrize("name", list(MASK_FORMATS))
def test_what_predict_writes_is_read_again(tmp_path, photos: Path, name: str):
    writer = MASK_FORMATS[name](tmp_path / "masks", CLASSES, ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    for number, path in enumerate(sorted(photos.iterdir())):
        writer.add(path, path.stem, Segmentation(drawn(number), np.ones(SIZE, np.float32), CLASSES))
    written = writer.finish()
    source = written.parent if name == "yolo" else written
    own = None if name == "yolo" else photos
    info = prepare_annotations(tmp_path / "out", name="mine", source=source, images=own, classes=None)
    assert info.classes == CLASSES
    assert {part: content.images for part, content in info.parts.items()} == {"train": 2, "val": 1}
    found = {Path(one).name: labels for one, labels in labels_of(tmp_path / "out").items()}
    for number, stem in enumerate("abc"):
        np.testing.assert_array_equal(found[stem], drawn(number))


def test_label_studio_paths_may_start_from_a_whole_disk(tmp_path, photos: Path, monkeypatch):
    writer = MASK_FORMATS["labelstudio"](tmp_path / "masks", CLASSES, ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    writer.add(photos / "a.png", "a", Segmentation(drawn(0), np.ones(SIZE, np.float32), CLASSES))
    monkeypatch.setattr(annotations, "files_below", lambda _folder: pytest.fail("the disk is searched"))
    info = prepare_annotations(tmp_path / "out", name="mine", source=writer.finish(), images=Path("/"))
    assert sum(part.images for part in info.parts.values()) == 1


def coco(photos: Path, **changes: Any) -> Path:
    """Two categories in falling order of their ids, a polygon over a run-length region, and an image without any."""
    counts = [0, SIZE[0] * 10, SIZE[0] * (SIZE[1] - 10)]
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "some/where/b.png"}],
        "categories": [{"id": 5, "name": "tree"}, {"id": 2, "name": "sky"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 5, "segmentation": [[2, 4, 6, 4, 6, 10, 2, 10]]},
            {"id": 2, "image_id": 7, "category_id": 2, "segmentation": {"size": list(SIZE), "counts": counts}},
        ],
    }
    file = photos.parent / "instances.json"
    file.write_text(json.dumps({**content, **changes}), encoding="utf-8-sig")
    return file


def test_images_without_a_region_are_told(tmp_path, photos: Path, caplog):
    prepare_annotations(tmp_path / "out", name="mine", source=coco(photos), images=photos, background="rest")
    assert f"1 image without a region, as {photos / 'b.png'}: they become rest as a whole." in caplog.text


def test_of_several_annotations_of_a_task_the_one_marked_as_true_is_taken(tmp_path, photos: Path, caplog):
    points = [[0, 0], [100, 0], [100, 100], [0, 100]]
    answers = [
        {
            "ground_truth": name == "tree",
            "result": [{"type": "polygonlabels", "value": {"points": points, "polygonlabels": [name]}}],
        }
        for name in ("sky", "tree")
    ]
    (photos / "tasks.json").write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": answers}]))
    info = prepare_annotations(tmp_path / "out", name="mine", source=photos / "tasks.json")
    assert (info.classes, info.parts["train"].pixels) == (("tree",), (SIZE[0] * SIZE[1],))
    assert "1 task in" in caplog.text


def test_both_unicode_forms_of_a_path_name_one_image(tmp_path, photos: Path):
    for folder in ("e\u0301te\u0301", "hiver"):
        (photos / folder).mkdir()
        Image.new("RGB", SIZE[::-1]).save(photos / folder / "u\u0308.png")
    image = {"id": 7, "file_name": "old/\u00e9t\u00e9/\u00fc.png"}
    regions = [{"id": 1, "image_id": 7, "category_id": 5, "segmentation": [[2, 4, 6, 4, 6, 10, 2, 10]]}]
    info = prepare_annotations(
        tmp_path / "out", name="x", source=coco(photos, images=[image], annotations=regions), images=photos
    )
    assert info.parts["train"].pixels == (0, 24)


def test_smaller_regions_lie_on_larger_ones_and_the_rest_is_ignored_or_a_class(tmp_path, photos: Path):
    prepare_annotations(tmp_path / "out", name="mine", source=coco(photos), images=photos, val_fraction=0)
    expected = np.full(SIZE, IGNORED, np.uint8)
    expected[:, :10] = 0
    expected[4:10, 2:6] = 1
    found = labels_of(tmp_path / "out")
    np.testing.assert_array_equal(found["a"], expected)
    assert (found["b"] == IGNORED).all()
    info = prepare_annotations(
        tmp_path / "rest", name="mine", source=coco(photos), images=photos, background="rest", val_fraction=0
    )
    assert info.classes == ("rest", "sky", "tree")
    np.testing.assert_array_equal(labels_of(tmp_path / "rest")["a"], np.where(expected == IGNORED, 0, expected + 1))


def test_regions_of_a_stored_image_are_turned_as_it_is_shown(tmp_path, photos: Path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.open(photos / "a.png").transpose(Image.Transpose.ROTATE_90).save(photos / "a.png", exif=exif)
    stored = {"id": 7, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1]}
    # The left upper corner as it is shown lies in the left lower one as it is stored.
    region = [[0, SIZE[1], 0, SIZE[1] - 4, 6, SIZE[1] - 4, 6, SIZE[1]]]
    annotations = [{"id": 1, "image_id": 7, "category_id": 5, "segmentation": region}]
    source = coco(photos, images=[stored], annotations=annotations)
    prepare_annotations(tmp_path / "out", name="mine", source=source, images=photos, val_fraction=0)
    expected = np.full(SIZE, IGNORED, np.uint8)
    expected[:6, :4] = 1
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["a"], expected)
    source = coco(photos, images=[{**stored, "width": 99}], annotations=annotations)
    with pytest.raises(UserError, match="has 99 x 32 pixels, its image has 32 x 24"):
        prepare_annotations(tmp_path / "other", name="mine", source=source, images=photos)


def test_label_studio_as_people_use_it(tmp_path, photos: Path):
    """Polygons in percent, a cancelled answer before the one that counts, a prediction, uploaded and local files."""

    def polygon(name: str) -> dict[str, Any]:
        points = [[25, 25], [50, 25], [50, 50], [25, 50]]
        return {"type": "polygonlabels", "value": {"points": points, "polygonlabels": [name]}}

    answers = [{"was_cancelled": True, "result": [polygon("sky")]}, {"result": [polygon("tree"), {"type": "choices"}]}]
    tasks = [
        {"data": {"image": "/data/local-files/?d=photos%2Fa.png"}, "annotations": answers},
        {"data": {"image": "/data/upload/1/0123abcd-%62.png"}, "predictions": [{"result": [polygon("sky")]}]},
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    (tmp_path / "labelstudio.xml").write_text('<View><Label value="tree"/></View>')
    source = tmp_path / "tasks.json"
    info = prepare_annotations(tmp_path / "out", name="mine", source=source, images=photos, val_fraction=0)
    assert info.classes == ("tree", "sky")
    for stem, label in {"a": 0, "b": 1}.items():
        expected = np.full(SIZE, IGNORED, np.uint8)
        expected[6:13, 8:17] = label
        np.testing.assert_array_equal(labels_of(tmp_path / "out")[stem], expected)
    answers[1]["result"] = [{"type": "rectanglelabels"}]
    source.write_text(json.dumps(tasks))
    with pytest.raises(UserError, match='a region is of type "rectanglelabels"; only brushes and polygons say'):
        prepare_annotations(tmp_path / "boxes", name="mine", source=source, images=photos)


def test_cvat_with_its_images_beside_the_masks(tmp_path, photos: Path):
    folder = tmp_path / "cvat"
    (folder / "SegmentationClass").mkdir(parents=True)
    (folder / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nvoid:0,0,0::\nroad:7,8,9::\n")
    photos.rename(folder / "JPEGImages")
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[3:9] = (7, 8, 9)
    Image.fromarray(mask).save(folder / "SegmentationClass" / "a.png")
    info = prepare_annotations(tmp_path / "out", name="mine", source=folder, val_fraction=0)
    assert info.classes == ("road",)
    np.testing.assert_array_equal(labels_of(tmp_path / "out")["a"], np.where(mask[..., 0] == 7, 0, IGNORED))


def test_yolo_as_roboflow_lays_it_out(tmp_path, photos: Path):
    for part, stems in {"train": "ab", "valid": "c"}.items():
        (tmp_path / "images" / part / "images").mkdir(parents=True)
        (tmp_path / "images" / part / "labels").mkdir()
        for stem in stems:
            (photos / f"{stem}.png").rename(tmp_path / "images" / part / "images" / f"{stem}.png")
            line = "1 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5\n"
            (tmp_path / "images" / part / "labels" / f"{stem}.txt").write_text(line if stem != "b" else "\n")
    settings = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: {1: tree, 0: sky}\n"
    (tmp_path / "images" / "data.yaml").write_text(settings)
    prepare_annotations(tmp_path / "out", name="mine", source=tmp_path / "images")
    found = labels_of(tmp_path / "out")
    dataset = PreparedDataset.open(tmp_path / "out")
    assert (dataset.count("val"), dataset.info.classes) == (1, ("sky", "tree"))
    expected = np.full(SIZE, IGNORED, np.uint8)
    expected[6:13, 8:17] = 1
    np.testing.assert_array_equal(found["valid/images/c"], expected)
    assert (found["train/images/b"] == IGNORED).all()
    # Elsewhere, and without images of its own for validation, which are drawn.
    settings = tmp_path / "mine.yaml"
    settings.write_text("path: images\ntrain: train/images\nval: train/images\nnames: [sky, tree]\n")
    info = prepare_annotations(tmp_path / "own", name="mine", source=settings, val_fraction=0.5)
    assert [part.images for part in info.parts.values()] == [1, 1]
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / "train" / "images" / "a.bmp")
    with pytest.raises(UserError, match="have the same name; only the ending differs"):
        prepare_annotations(tmp_path / "twice", name="mine", source=settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [{"id": 3, "image_id": 7, "category_id": 5, "bbox": [1, 2, 3, 4]}]}, "annotation 3 has a box"),
        ({"annotations": [{"id": 3, "image_id": 8, "category_id": 5, "segmentation": [[1, 1, 2, 2, 3, 1]]}]}, "8 is"),
        ({"annotations": [{"id": 3, "image_id": 7, "category_id": 6, "segmentation": [[1, 1, 2, 2, 3, 1]]}]}, "6 is"),
        ({"images": [{"id": 7, "file_name": "nowhere.png"}], "annotations": []}, 'image "nowhere.png" is not in'),
        ({"images": [{"id": 7, "file_name": "../secret.png"}], "annotations": []}, 'image "../secret.png" is not in'),
        ({"images": [{"id": n, "file_name": "a.png"} for n in (7, 9)], "annotations": []}, "a second time"),
        (
            {"annotations": [{"id": 3, "image_id": 7, "category_id": 5, "segmentation": {"size": [9, 9]}}]},
            "it is of an image of 9 x 9 pixels, this one has 32 x 24",
        ),
        ({"annotations": [{"id": 3, "image_id": 7, "category_id": 5, "segmentation": [["x"]]}]}, "a.png"),
        (
            {"annotations": [{"id": 3, "image_id": 7, "category_id": 5, "segmentation": [[0, 0, np.nan, 1, 2, 2]]}]},
            "no finite place",
        ),
        ({"categories": 3}, "COCO's JSON"),
        ({"categories": [{"id": 5, "name": name} for name in CLASSES]}, "the id 5 is that of several categories"),
        ({"images": [{"id": 7, "file_name": f"{stem}.png"} for stem in "ab"]}, "the id 7 is that of several images"),
        ({"annotations": []}, "No pixel lies in a region"),
        *(
            (
                {
                    "annotations": [
                        {"id": 3, "image_id": 7, "category_id": 5, "segmentation": {"size": [24, 32], "counts": counts}}
                    ]
                },
                "run lengths are not those of 32 x 24 pixels",
            )
            for counts in ([10, 5], [700, 100], [800, -32], "0P5", "hello~~~~")
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_coco_is_named(tmp_path, photos: Path, changes: dict[str, Any], message: str):
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "secret.png")
    with pytest.raises(UserError) as caught:
        prepare_annotations(tmp_path / "out", name="mine", source=coco(photos, **changes), images=photos)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "is a box"),
        ("0 0 0 1 0 1 1 1", "is a box or incomplete"),
        ("7 0 0 1 0 1 1", "class 7 is none of the 2"),
        ("-1 0 0 1 0 1 1", "class -1 is none of the 2"),
        ("x 0 0 1 0 1 1", "'x'"),
        ("0 nan 0 1 0 1 1", "far outside the image, at nan % of its width and 0 % of its height"),
        ("0 12 10 25 10 25 20", "far outside the image, at 1200 % of its width and 1000 % of its height"),
    ],
)
def test_what_is_wrong_with_yolo_is_named(tmp_path, photos: Path, line: str, message: str):
    photos.rename(tmp_path / "images")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "b.txt").write_text(f"{line}\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: {0: sky, 1: tree}\n")
    with pytest.raises(UserError) as caught:
        prepare_annotations(tmp_path / "out", name="mine", source=tmp_path)
    assert message in str(caught.value)
    assert "/b." in str(caught.value)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("{'10': k, '0': a, '2': c}", ["a", "c", "k"]),
        ("{1: z, 2: c}", ["z", "c"]),
        ("[a, yes, c]", "a class is called True: YAML reads yes"),
        ("cat", "`names` must list the classes"),
    ],
)
def test_yolo_numbers_are_those_of_its_names(tmp_path, photos: Path, names: str, found: list[str] | str):
    photos.rename(tmp_path / "images")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "b.txt").write_text("2 0 0 1 0 1 1 0 1\n")
    (tmp_path / "data.yaml").write_text(f"train: images\nval: images\nnames: {names}\n")
    if isinstance(found, str):
        with pytest.raises(UserError, match=found):
            prepare_annotations(tmp_path / "out", name="mine", source=tmp_path)
        return
    info = prepare_annotations(tmp_path / "out", name="mine", source=tmp_path)
    assert list(info.classes) == found
    assert (labels_of(tmp_path / "out")["images/b"] == found.index("c")).all()


def test_yolo_folders_may_be_links_and_an_image_is_in_one_part(tmp_path, photos: Path):
    for part, stem in (("train", "a"), ("val", "b")):
        (tmp_path / "real" / part).mkdir(parents=True)
        (photos / f"{stem}.png").rename(tmp_path / "real" / part / "same.png")
        (tmp_path / "real" / part / "._same.png").write_bytes(b"\0\5")
        (tmp_path / "set" / part / "labels").mkdir(parents=True)
        (tmp_path / "set" / part / "labels" / "same.txt").write_text("0 0 0 1 0 1 1\n")
        (tmp_path / "set" / part / "images").symlink_to(tmp_path / "real" / part)
    settings = tmp_path / "set" / "data.yaml"
    settings.write_text("train: train/images\nval: val/images\nnames: [sky]\n")
    prepare_annotations(tmp_path / "out", name="mine", source=settings)
    assert list(labels_of(tmp_path / "out")) == ["train/images/same", "val/images/same"]
    settings.write_text("train: [train/images, val/images]\nval: val/images\nnames: [sky]\n")
    with pytest.raises(UserError, match='"val/images/same" is an image of `train` and of `val`'):
        prepare_annotations(tmp_path / "again", name="mine", source=settings)


@pytest.mark.parametrize("again", ["tree:0,0,9::", "sky:1,2,3::", "car:0,0,0::"])
def test_cvat_labels_and_colours_are_unique(tmp_path, photos: Path, again: str):
    (photos / "labelmap.txt").write_text(f"background:0,0,0::\nsky:0,0,9::\n{again}\n")
    with pytest.raises(UserError, match=f'colour of "{again}" is listed more than once'):
        prepare_annotations(tmp_path / "out", name="mine", source=photos)


def test_files_of_no_known_tool_are_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "y.json").write_text("[" * 100_000)
    for source in (tmp_path / "x.json", tmp_path / "y.json", tmp_path, tmp_path / "nowhere.json"):
        with pytest.raises(UserError):
            prepare_annotations(tmp_path / "out", name="mine", source=source)


def test_an_image_that_is_there_twice_is_not_guessed(tmp_path, photos: Path):
    (photos / "more").mkdir()
    (photos / "more" / "a.png").write_bytes((photos / "a.png").read_bytes())
    with pytest.raises(UserError, match=r'image "a\.png" is there more than once'):
        prepare_annotations(tmp_path / "out", name="mine", source=coco(photos), images=photos)
