import math

import numpy as np
import pytest

from cascade_clip.evaluation.details import ImageResult, most_confused
from cascade_clip.evaluation.scores import scores_from_confusion
from cascade_clip.report.evaluation_charts import (
    MOST_CONFUSION_CLASSES,
    class_iou_columns,
    class_iou_figure,
    confusion_chart,
    confusion_figure,
    histogram_chart,
)


def plain(said: str) -> str:
    return said.replace("\u2068", "").replace("\u2069", "")


def said(spec) -> list[str]:
    return [plain(row["says"]) for row in spec["data"]["values"]]


def shares(spec) -> np.ndarray:
    columns = spec["usermeta"]["columns"]
    return np.array([row["value"] for row in spec["data"]["values"]]).reshape(-1, columns)


def test_bars_are_sorted_and_unseen_classes_marked():
    scores = scores_from_confusion([[1, 1, 0], [0, 9, 0], [0, 0, 0]], (0, 2), (1,), ("a", "b", "c"))
    assert math.isnan(scores.iou[2])
    (column,) = class_iou_columns(scores)
    assert said(column) == ["b (unseen): 90.0 %", "a (seen): 50.0 %"]  # c occurs nowhere
    assert '["* b", "a"]' in column["layer"][0]["encoding"]["y"]["axis"]["labelExpr"]
    assert column["encoding"]["color"]["scale"]["domain"] == ["seen: mIoU 50.0 %", "* unseen: mIoU 90.0 %"]


def test_a_fully_supervised_result_has_one_kind():
    (column,) = class_iou_columns(scores_from_confusion([[1, 1], [0, 2]], (0, 1), (), ("a", "b")))
    assert column["encoding"]["color"]["scale"]["domain"] == ["all: mIoU 58.3 %"]
    assert said(column) == ["b: 66.7 %", "a: 50.0 %"]


def test_many_classes_take_several_columns():
    confusion = np.ones((100, 100), np.int64) + np.diag(np.arange(100) * 10)
    columns = class_iou_columns(scores_from_confusion(confusion, range(100), (), [str(i) for i in range(100)]))
    assert [len(said(column)) for column in columns] == [34, 34, 32]
    assert [text.split(":")[0] for column in columns for text in said(column)] == [str(i) for i in reversed(range(100))]


def test_rows_of_the_confusion_are_shares_of_the_true_class():
    confusion, classes = np.array([[6, 2], [5, 15]]), ("small", "large")
    chart = confusion_chart(confusion, classes, most_confused(confusion, classes, 1), unseen={"small"})
    np.testing.assert_allclose(shares(chart), [[0.75, 0.25], [0.25, 0.75]])
    assert said(chart)[1] == "labelled * small, predicted large: 25.0 %, 2 pixels"
    assert chart["layer"][-1]["data"]["values"] == [{"row": 1, "column": 0}]


def test_of_many_classes_the_largest_are_shown_and_the_rest_is_summed():
    confusion = np.ones((60, 60), np.int64) + np.diag(np.arange(60) * 100)
    chart = confusion_chart(confusion, [f"class {k}" for k in range(60)], [])
    assert shares(chart).shape == (MOST_CONFUSION_CLASSES, MOST_CONFUSION_CLASSES + 1)
    np.testing.assert_allclose(shares(chart).sum(axis=1), 1)
    assert said(chart)[0].startswith("labelled class 20, predicted class 20: ")
    assert "all other classes" in said(chart)[MOST_CONFUSION_CLASSES]


@pytest.mark.parametrize(
    ("confusion", "names"),
    [
        ([[0, 0], [0, 0]], ["a", "b"]),
        ([[3, 0], [0, 4]], ["a", "b"]),
        ([[3, 1], [1, 3]], ["$\\frac{$", "\x00\ud800" + "x" * 200]),
    ],
)
def test_every_result_is_drawn(confusion, names):
    counts = np.array(confusion)
    pairs = most_confused(counts, names, 5)
    assert confusion_figure(counts, names, pairs, unseen=names[:1], title="t " * 99).startswith(b"\x89PNG")
    assert class_iou_figure(scores_from_confusion(counts, (0,), (1,), names)).startswith(b"\x89PNG")
    assert (confusion_chart(counts, names, pairs) is None) == (not counts.any())


def test_the_histogram_counts_images_that_have_a_value():
    images = [ImageResult(str(k), k, miou, 0.5) for k, miou in enumerate((0.0, 0.04, 0.5, 1.0, math.nan))]
    chart, words = histogram_chart(images)
    assert [text for text in said(chart) if not text.endswith(" 0 images")] == [
        "0–5 %: 2 images",
        "50–55 %: 1 image",
        "95–100 %: 1 image",
    ]
    assert words == "median 27.0 %, half of the images between 3.0 and 62.5 %"
    assert chart["encoding"]["y"]["axis"]["values"] == [0, 1, 2]
    assert histogram_chart(images[4:]) is None
