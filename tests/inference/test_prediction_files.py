import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cascade_clip.errors import UserError
from cascade_clip.inference import segmentation
from cascade_clip.inference.prediction_files import is_taken
from cascade_clip.inference.segmentation import Segmentation

COLOURS = ((10, 20, 30), (200, 100, 50))


def small(source: str | None = None) -> Segmentation:
    labels = np.array([[1, 1, 0], [1, 255, 0]], np.uint8)
    scores = np.array([[0.9, 0.7, 0.25], [0.8, 0.1, 0.75]], np.float32)
    return Segmentation(labels, scores, ("sky", "café"), COLOURS, np.zeros((2, 3, 3), np.uint8), source)


def test_labels_are_an_indexed_png_with_the_classes_colours(tmp_path, monkeypatch):
    found = small()
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "photo.scores.npz").write_text("mine")
    files = found.save("~/new", "photo")
    assert (files.labels.parent / "photo.scores.npz").read_text() == "mine"
    assert [path.name for path in files if path is not None] == ["photo.labels.png", "photo.overlay.png", "photo.json"]
    with Image.open(files.labels) as labels:
        assert labels.mode == "P"
        assert np.array_equal(np.array(labels), found.labels)
        rgb = np.array(labels.convert("RGB"))
    assert rgb[0].tolist() == [list(COLOURS[1]), list(COLOURS[1]), list(COLOURS[0])]
    assert rgb[1, 1].tolist() == [0, 0, 0]
    with Image.open(files.overlay) as overlay:
        assert overlay.mode == "RGB"


def test_record_lists_present_classes_and_what_has_none(tmp_path):
    files = small("some/photo.jpg").save(tmp_path)
    record = json.loads(files.record.read_text(encoding="utf-8"))
    first, second = record["classes"]
    assert first == {
        "class": "café",
        "index": 1,
        "colour": "#c86432",
        "pixels": 3,
        "share": 0.5,
        "mean_score": pytest.approx(0.8),
    }
    assert (second["class"], second["pixels"], second["mean_score"]) == ("sky", 2, 0.5)
    assert record["no_class"] == {"index": 255, "pixels": 1, "share": pytest.approx(1 / 6)}
    assert (record["image"], record["width"], record["height"]) == ("some/photo.jpg", 3, 2)
    assert record["names"] == ["sky", "café"]


def test_the_legend_names_pixels_without_a_class_only_where_there_are_some(monkeypatch):
    shown: list[list[str]] = []
    monkeypatch.setattr(segmentation, "render_overlay", lambda *given: shown.append([entry.name for entry in given[3]]))
    small().overlay()
    replace(small(), labels=np.zeros((2, 3), np.uint8)).overlay()
    assert shown == [["café", "sky", "no class"], ["sky"]]


def test_more_than_255_classes_are_written_in_16_bits(tmp_path):
    labels = np.array([[0, 299, 65535]], np.uint16)
    names = tuple(f"thing {index}" for index in range(300))
    image = np.zeros((1, 3, 3), np.uint8)
    found = Segmentation(labels, np.ones((1, 3), np.float32), names, image=image)
    files = found.save(tmp_path, "many")
    with Image.open(files.labels) as picture:
        assert np.array_equal(np.array(picture).astype(np.uint16), labels)


@pytest.mark.parametrize(
    ("record", "ours"),
    [
        ('{"names": [], "image": "IMAGE"}', True),
        ('{"names": [], "video": "IMAGE"}', True),
        ('{"models": [], "image": "IMAGE"}', True),
        ('{"names": [], "image": "IMAGE.png"}', False),
        ('{"names": [], "image": 3}', False),
        ('{"image": "IMAGE"}', False),
        ('["names"]', False),
        ("[" * 100_000, False),
    ],
)
def test_files_belong_to_the_image_that_their_record_names(tmp_path, record: str, ours: bool):
    image, link = tmp_path / "a.jpg", tmp_path / "link.jpg"
    link.symlink_to(image)
    assert not is_taken(tmp_path, "a", str(image))
    (tmp_path / "a.overlay.png").symlink_to("nowhere")
    assert is_taken(tmp_path, "a", str(image))
    (tmp_path / "a.json").write_text(record.replace("IMAGE", str(image)))
    assert is_taken(tmp_path, "a", str(link)) is not ours
    assert is_taken(tmp_path, "a", None)
    assert is_taken(tmp_path, "a", str(image), {(tmp_path / "a.json").resolve()})


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("here", encoding="utf-8")
    with pytest.raises(UserError, match=r'cannot be written to ".*taken"'):
        small().save(tmp_path / "taken", "photo")
