import json
import math

import pytest
import torch

from cascade_clip.evaluation.scores import confusion_matrix, harmonic_mean, scores_from_confusion

NAMES = ("a", "b", "c", "d")


def test_every_figure_of_a_case_worked_by_hand():
    # a: 6 of 8 right; b: 3 of 4; c: 2 of 4, and 2 of others taken for c; d: neither labelled nor predicted
    confusion = [[6, 1, 1, 0], [0, 3, 1, 0], [1, 1, 2, 0], [0, 0, 0, 0]]
    scores = scores_from_confusion(confusion, (0, 1, 3), (2,), NAMES)
    assert scores.iou[:3] == pytest.approx((6 / 9, 3 / 6, 2 / 6))
    assert math.isnan(scores.iou[3])
    assert scores.accuracy[:3] == pytest.approx((6 / 8, 3 / 4, 2 / 4))
    assert scores.miou == pytest.approx((6 / 9 + 3 / 6 + 2 / 6) / 3)
    assert scores.miou_seen == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert scores.miou_unseen == pytest.approx(2 / 6)
    assert scores.hiou == pytest.approx(2 * (7 / 12) * (1 / 3) / (7 / 12 + 1 / 3))
    assert scores.mean_accuracy_seen == pytest.approx(0.75)
    assert scores.mean_accuracy_unseen == pytest.approx(0.5)
    assert scores.pixel_accuracy == pytest.approx(11 / 16)
    assert scores.labelled_pixels == (8, 4, 4, 0)


def test_a_fully_supervised_split_has_no_unseen_figures_and_json_says_null():
    scores = scores_from_confusion([[1, 0], [0, 0]], (0, 1), (), ("a", "b"))
    record = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert record["miou_unseen"] is None
    assert record["hiou"] is None
    assert record["miou"] == record["miou_seen"] == 1.0
    assert record["classes"][1] == {"class": "b", "unseen": False, "iou": None, "accuracy": None, "labelled_pixels": 0}


@pytest.mark.parametrize(
    ("seen", "unseen", "expected"), [(0.5, 0.25, 1 / 3), (0.0, 0.0, 0.0), (0.4, 0.0, 0.0), (1.0, 1.0, 1.0)]
)
def test_harmonic_mean(seen: float, unseen: float, expected: float):
    assert harmonic_mean(seen, unseen) == pytest.approx(expected)


def test_rows_are_true_classes_and_ignored_pixels_are_left_out():
    label = torch.tensor([[0, 0, 1], [255, 2, 255]], dtype=torch.uint8)
    prediction = torch.tensor([[0, 2, 1], [1, 2, 0]], dtype=torch.uint8)
    matrix = confusion_matrix(prediction, label, 3)
    assert matrix.dtype == torch.int64
    assert matrix.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]


def test_counts_do_not_wrap_in_eight_bits():
    label = torch.full((300, 300), 200, dtype=torch.uint8)
    matrix = confusion_matrix(label, label, 201)
    assert matrix[200, 200] == matrix.sum() == 90000
