"""Masks in other tools' formats, read back by those tools' own readers."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.errors import UserError
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.report.mask_formats import MASK_FORMATS, mask_writers, polygons, unique_colours

CLASSES = ("road", "tree: old", 'a "wide" sky')
COLOURS = ((10, 20, 30), (10, 20, 30), (0, 0, 0))
NO_CLASS = 255


@pytest.fixture
def images(tmp_path) -> dict[Path, Segmentation]:
    """Two image files of other sizes, with rings, single pixels, pixels of no class, and a class in one of them."""
    drawn = {}
    for name, (height, width) in {"first.jpg": (37, 53), "zweites bild.png": (40, 30)}.items():
        labels = np.zeros((height, width), np.uint8)
        labels[5:25, 6:26] = 1
        labels[10:15, 10:20] = 0
        labels[12, 14] = 1
        labels[0:3, 0:3] = NO_CLASS
        if name == "first.jpg":
            labels[30, 40] = labels[33, 44:46] = 2
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (width, height), (90, 120, 60)).save(path)
        drawn[path] = Segmentation(labels, np.full((height, width), 0.5, np.float32), CLASSES)
    return drawn


def written(name: str, folder: Path, images: dict[Path, Segmentation]) -> Path:
    writer = MASK_FORMATS[name](folder, CLASSES, COLOURS)
    for path, segmentation in images.items():
        writer.add(path, path.stem, segmentation)
    return writer.finish()


def test_coco_is_read_by_pycocotools(tmp_path, images: dict[Path, Segmentation]):
    from pycocotools.coco import COCO

    found = COCO(str(written("coco", tmp_path / "out", images)))
    assert [category["name"] for category in found.loadCats(found.getCatIds())] == list(CLASSES)
    for record in found.loadImgs(found.getImgIds()):
        labels = images[Path(record["file_name"])].labels
        assert (record["height"], record["width"]) == labels.shape
        annotations = found.loadAnns(found.getAnnIds(imgIds=record["id"]))
        assert sorted(a["category_id"] - 1 for a in annotations) == sorted(set(labels.ravel()) - {NO_CLASS})
        for annotation in annotations:
            mask = found.annToMask(annotation) > 0
            np.testing.assert_array_equal(mask, labels == annotation["category_id"] - 1)
            assert annotation["area"] == mask.sum()


def test_yolo_is_read_by_supervision(tmp_path, images: dict[Path, Segmentation]):
    supervision = pytest.importorskip("supervision", reason="reads the YOLO files back")
    settings = written("yolo", tmp_path / "out", images)
    found = supervision.DetectionDataset.from_yolo(
        str(settings.parent / "images"), str(settings.parent / "labels"), str(settings), force_masks=True
    )
    assert found.classes == list(CLASSES)
    by_stem = {path.stem: segmentation.labels for path, segmentation in images.items()}
    assert len(found) == len(images)
    for path, _, detections in found:
        labels = by_stem[Path(path).stem]
        for index in range(len(CLASSES)):
            mask = np.zeros(labels.shape, bool)
            for region in detections.mask[detections.class_id == index]:
                mask |= region
            np.testing.assert_array_equal(mask, labels == index)


def test_cvat_is_read_by_opencv(tmp_path, images: dict[Path, Segmentation]):
    cv2 = pytest.importorskip("cv2", reason="reads the colour pictures back")
    folder = written("cvat", tmp_path / "out", images)
    rows = [line.split(":") for line in (folder / "labelmap.txt").read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == ["background", "road", "tree old", 'a "wide" sky']
    colours = {tuple(map(int, row[1].split(","))): number - 1 for number, row in enumerate(rows)}
    assert len(colours) == len(CLASSES) + 1
    stems = (folder / "ImageSets" / "Segmentation" / "default.txt").read_text().splitlines()
    assert stems == [path.stem for path in images]
    for path, segmentation in images.items():
        picture = cv2.cvtColor(cv2.imread(str(folder / "SegmentationClass" / f"{path.stem}.png")), cv2.COLOR_BGR2RGB)
        read = np.array([[colours[tuple(int(value) for value in pixel)] for pixel in row] for row in picture])
        np.testing.assert_array_equal(np.where(read < 0, NO_CLASS, read), segmentation.labels)


def test_label_studio_is_read_by_its_converter(tmp_path, images: dict[Path, Segmentation]):
    brush = pytest.importorskip("label_studio_converter.brush", reason="reads the brush masks back")
    file = written("labelstudio", tmp_path / "out", images)
    names = [label.get("value") for label in ET.parse(file.with_suffix(".xml")).iter("Label")]
    assert names == list(CLASSES)
    tasks = json.loads(file.read_text())
    for task, (path, segmentation) in zip(tasks, images.items(), strict=True):
        assert task["data"]["image"].endswith(path.name.replace(" ", "%20"))
        for region in task["predictions"][0]["result"]:
            height, width = region["original_height"], region["original_width"]
            mask = brush.decode_rle(region["value"]["rle"]).reshape(height, width, 4)[..., 3] > 0
            (name,) = region["value"]["brushlabels"]
            np.testing.assert_array_equal(mask, segmentation.labels == CLASSES.index(name))


def random_mask(seed: int, height: int, width: int, share: float) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((height, width)) < share


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.05, 0.5, 0.8, 0.97])
def test_polygons_paint_any_mask_again(seed: int, share: float):
    cv2 = pytest.importorskip("cv2", reason="paints the polygons")
    mask = random_mask(seed, 23, 31, share)
    painted = np.zeros(mask.shape, np.uint8)
    for polygon in polygons(mask):
        assert len(polygon) >= 3
        cv2.fillPoly(painted, [polygon.astype(np.int32)], 1)
    # A region inside a hole of another is painted with the hole's own polygon, never lost.
    np.testing.assert_array_equal(painted > 0, mask)


@pytest.mark.parametrize("name", ["yolo", "cvat"])
def test_masks_of_other_classes_are_not_mixed(tmp_path, images: dict[Path, Segmentation], name: str):
    written(name, tmp_path, images)
    written(name, tmp_path, images)
    with pytest.raises(UserError, match="holds masks of other classes"):
        MASK_FORMATS[name](tmp_path, CLASSES[::-1], COLOURS)


def test_a_missing_library_is_one_sentence(monkeypatch):
    monkeypatch.setattr("cascade_clip.report.mask_formats.find_spec", lambda name: None)
    for name in ("coco", "yolo", "labelstudio"):
        with pytest.raises(UserError, match=rf'--format {name} needs the extra `formats`: pip install "cascade-clip'):
            mask_writers(f"cvat,{name}")


def test_colours_are_distinct():
    assert unique_colours(COLOURS) == [(10, 20, 30), (10, 20, 31), (0, 0, 1)]


@pytest.mark.parametrize("name", ["coco", "labelstudio"])
def test_a_file_of_the_users_is_kept(tmp_path, images: dict[Path, Segmentation], name: str):
    written(name, tmp_path, images)
    written(name, tmp_path, images)
    (tmp_path / f"{name}.json").write_text('{"images": []}')
    with pytest.raises(UserError, match=rf'{name}\.json" was not written by cascade-clip and is kept'):
        written(name, tmp_path, images)


@pytest.mark.parametrize("name", ["coco", "labelstudio"])
def test_images_of_an_earlier_run_that_go_are_named(tmp_path, images: dict[Path, Segmentation], name: str, caplog):
    first, second = images
    written(name, tmp_path, {first: images[first]})
    written(name, tmp_path, images)
    assert not caplog.text
    written(name, tmp_path, {second: images[second]})
    assert "of an earlier run is replaced: it no longer holds" in caplog.text
    assert "first.jpg" in caplog.text


def test_cvat_lists_the_masks_of_earlier_runs(tmp_path, images: dict[Path, Segmentation]):
    for path, segmentation in images.items():
        written("cvat", tmp_path, {path: segmentation})
    listed = (tmp_path / "cvat" / "ImageSets" / "Segmentation" / "default.txt").read_text()
    assert listed.splitlines() == ["first", "zweites bild"]


def test_cvat_says_what_becomes_of_colons(tmp_path, caplog):
    MASK_FORMATS["cvat"](tmp_path, ["green: circle", "sky"], COLOURS[:2])
    assert 'CVAT\'s names hold no colon: "green: circle" becomes "green circle" there.' in caplog.text
    with pytest.raises(UserError, match='--format cvat: "green: circle" would have the name of another class'):
        MASK_FORMATS["cvat"](tmp_path, ["green: circle", "green circle"], COLOURS[:2])
