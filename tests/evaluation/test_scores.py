import json
import math

import pytest
import torch

from cascade_clip.evaluation.scores import confusion_matrix, harmonic_mean, scores_from_confusion

NAMES = ("a", "b", "c", "d")


def test_a_fully_supervised_split_has_no_unseen_figures_and_json_says_null():
    scores = scores_from_confusion([[1, 0], [0, 0]], (0, 1), (), ("a", "b"))
    record = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert record["miou_unseen"] is None
    assert record["hiou"] is None
    assert record["miou"] == record["miou_seen"] == 1.0
    assert record["classes"][1] == {"class": "b", "unseen": False, "iou": None, "accuracy": None, "labelled_pixels": 0}


@pytest.mark.parametrize(
    ("seen", "unseen", "expected"),
    [(0.5, 0.25, 1 / 3), (0.0, 0.0, 0.0), (0.4, 0.0, 0.0), (1.0, 1.0, 1.0), (math.nan, 0.5, math.nan)],
)
def test_harmonic_mean(seen: float, unseen: float, expected: float):
    assert harmonic_mean(seen, unseen) == pytest.approx(expected, nan_ok=True)


def test_counts_do_not_wrap_in_eight_bits():
    label = torch.full((300, 300), 200, dtype=torch.uint8)
    matrix = confusion_matrix(label, label, 201)
    assert matrix[200, 200] == matrix.sum() == 90000
