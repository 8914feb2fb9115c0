import math
from pathlib import Path

import numpy as np
import pytest
from two_blocks import SPLIT

from cascade_clip.data.images import decode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.drawing import overlay
from cascade_clip.drawing.overlay import CELL_HEIGHT, MARGIN
from cascade_clip.drawing.palette import class_colours
from cascade_clip.evaluation.details import image_result
from cascade_clip.report import picture_sheets
from cascade_clip.report.picture_sheets import (
    STATES,
    PicturedImage,
    compare_predictions,
    error_map,
    images_with_unseen_classes,
    picture_image,
    picture_sheet,
)

NAMES = ("red", "green", "blue")
COLOURS = class_colours(NAMES)


def pictured(squares: Path, predict, **options: str) -> PicturedImage:
    return picture_image(PreparedDataset.open(squares), 1, NAMES, COLOURS, predict, **options)


@pytest.fixture(scope="module")
def truth(squares: Path) -> np.ndarray:
    return decode_label(PreparedDataset.open(squares).read("val", 1).label_bytes)


def test_a_right_prediction_is_pictured_as_right_in_pictures_of_one_size(squares: Path, truth: np.ndarray):
    right = np.where(truth == 255, 2, truth).astype(np.uint8)
    one = pictured(squares, lambda _: right, group="best")
    assert (one.id, one.group, one.miou, one.pixel_accuracy) == ("v1", "best", 1.0, 1.0)
    assert {picture.size for picture in (one.label, one.prediction, one.errors)} == {one.image.size}
    assert max(one.image.size) == picture_sheets.SHORTEST_SIDE
    assert one.image.width / one.image.height == pytest.approx(truth.shape[1] / truth.shape[0], rel=0.01)


def test_the_figures_are_those_of_the_image_alone_and_classes_come_by_size(squares: Path, truth: np.ndarray):
    wrong = np.zeros_like(truth)
    one = pictured(squares, lambda _: wrong)
    expected = image_result("v1", 1, np.bincount(truth[truth != 255] * 3, minlength=9).reshape(3, 3))
    assert (one.miou, one.pixel_accuracy) == (expected.miou, expected.pixel_accuracy)
    pixels = [int((truth == k).sum() + (wrong == k).sum()) for k in range(3)]
    order = sorted(np.flatnonzero(pixels), key=lambda k: -pixels[k])
    assert one.classes == tuple((NAMES[k], COLOURS[k]) for k in order)


def test_each_state_of_an_error_map_is_drawn_in_its_colour():
    label, predicted = (
        np.kron([row], np.ones((40, 40))).astype(np.uint8) for row in ([0, 1, 255, 255], [0, 2, 0, 255])
    )
    drawn = np.asarray(error_map(np.full((*label.shape, 3), 128, np.uint8), label, predicted, (160, 40))).astype(int)
    assert drawn.shape == (40, 160, 3)
    nearest = [min(STATES, key=lambda state: np.abs(drawn[20, x] - state[1]).sum())[0] for x in (20, 60, 100, 140)]
    assert nearest == ["right", "wrong", "ignored", "ignored"]


def test_a_sheet_names_classes_figures_and_states(squares: Path, monkeypatch):
    legends: list[list[str]] = []
    draw = overlay.legend_below

    def noted(entries, *shape, **options):
        legends.append([entry.name for entry in entries])
        return draw(entries, *shape, **options)

    monkeypatch.setattr(overlay, "legend_below", noted)
    one = pictured(squares, lambda image: np.full(image.shape[:2], 2, np.uint8), group="worst")
    sheet = picture_sheet([one, one], unseen={"blue"})
    assert legends[0][0] == "blue *"
    assert set(legends[0]) == {"blue *", *(name for name, _ in one.classes if name != "blue")}
    assert legends[1] == ["right", "wrong", "ignored", "* unseen class"]
    assert one.caption.startswith(f"worst  ·  v1  ·  mIoU {100 * one.miou:.1f} %")
    assert sheet.height > picture_sheet([one]).height
    unknown = PicturedImage("x", "", math.nan, math.nan, *[None] * 4, classes=())
    assert unknown.caption == "x  ·  nothing labelled"


def test_models_are_compared_on_the_images_with_most_unseen_classes(squares: Path):
    dataset = PreparedDataset.open(squares)
    chosen = images_with_unseen_classes(dataset, SPLIT, 2)
    unseen = [len({2}.intersection(dataset.read("val", i).present)) for i in range(dataset.count("val"))]
    assert [unseen[i] for i in chosen] == sorted(unseen, reverse=True)[:2]
    models = {name: lambda image: np.zeros(image.shape[:2], np.uint8) for name in "AB"}
    both, one = (compare_predictions(each, SPLIT, dataset, chosen) for each in (models, {"A": models["A"]}))
    assert both.width > one.width
    assert min(both.height, one.height) > 2 * (CELL_HEIGHT + MARGIN)
