import math
from pathlib import Path

import numpy as np
import pytest

from cascade_clip.data.images import decode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.evaluation.details import image_result
from cascade_clip.report import pictured_image
from cascade_clip.report.palette import class_colours
from cascade_clip.report.picture_sheets import PicturedImage, picture_image, picture_sheet

NAMES = ("red", "green", "blue")
COLOURS = class_colours(NAMES)


def pictured(squares: Path, predict, **options: str) -> PicturedImage:
    return picture_image(PreparedDataset.open(squares), 1, NAMES, COLOURS, predict, **options)


def truth(squares: Path) -> np.ndarray:
    return decode_label(PreparedDataset.open(squares).read("val", 1).label_bytes)


def test_a_right_prediction_is_pictured_as_right_in_pictures_of_one_size(squares: Path):
    label = truth(squares)
    right = np.where(label == 255, 2, label).astype(np.uint8)
    one = pictured(squares, lambda _: right, group="best")
    assert (one.id, one.group, one.miou, one.pixel_accuracy) == ("v1", "best", 1.0, 1.0)
    assert {picture.size for picture in (one.image, one.label, one.prediction, one.errors)} == {one.image.size}
    assert max(one.image.size) == pictured_image.SMALLEST
    assert one.image.width / one.image.height == pytest.approx(label.shape[1] / label.shape[0], rel=0.01)


def test_the_figures_are_those_of_the_image_alone_and_classes_come_by_size(squares: Path):
    label = truth(squares)
    wrong = np.zeros_like(label)
    one = pictured(squares, lambda _: wrong)
    kept = label != 255
    counts = np.bincount(label[kept] * 3, minlength=9).reshape(3, 3)
    expected = image_result("v1", 1, counts)
    assert (one.miou, one.pixel_accuracy) == (expected.miou, expected.pixel_accuracy)
    pixels = {name: int((label == k).sum() + (wrong == k).sum()) for k, name in enumerate(NAMES)}
    shown = [name for name, _ in one.classes]
    assert shown == sorted((name for name in NAMES if pixels[name]), key=lambda name: -pixels[name])
    assert dict(one.classes).items() <= dict(zip(NAMES, COLOURS, strict=True)).items()


def test_a_sheet_names_classes_figures_and_states(squares: Path, monkeypatch: pytest.MonkeyPatch):
    legends: list[list[str]] = []
    draw = pictured_image.legend_below

    def noted(entries, width, size):
        legends.append([entry.name for entry in entries])
        return draw(entries, width, size)

    monkeypatch.setattr(pictured_image, "legend_below", noted)
    captions: list[str] = []
    lay_out = pictured_image.comparison_sheet
    monkeypatch.setattr(pictured_image, "comparison_sheet", lambda *given: captions.extend(given[2]) or lay_out(*given))
    one = pictured(squares, lambda image: np.full(image.shape[:2], 2, np.uint8), group="worst")
    sheet = picture_sheet([one, one], unseen={"blue"})
    assert legends[0][0] == "blue *"
    assert set(legends[0]) == {"blue *", *(name for name, _ in one.classes if name != "blue")}
    assert legends[1] == ["right", "wrong", "ignored", "* unseen class"]
    assert captions[0].split("  ·  ")[:2] == ["worst", "v1"]
    assert f"mIoU {100 * one.miou:.1f} %" in captions[0]
    assert sheet.height > picture_sheet([one]).height


def test_an_image_without_labels_says_so():
    unknown = PicturedImage("x", "", math.nan, math.nan, *[None] * 4, classes=())
    assert pictured_image._caption(unknown) == "x  ·  nothing labelled"
