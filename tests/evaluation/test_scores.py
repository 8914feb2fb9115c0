import json
import math

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from cascade_clip.evaluation.confusion import confusion_matrix
from cascade_clip.evaluation.scores import harmonic_mean, scores_from_confusion

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


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_torchmetrics(seed: int):
    random = torch.Generator().manual_seed(seed)
    classes = 8
    label = torch.randint(0, classes - 1, (2, 30, 40), generator=random)  # the last class is never labelled
    noise = torch.randint(0, classes - 2, label.shape, generator=random)  # nor is it predicted
    prediction = torch.where(torch.rand(label.shape, generator=random) < 0.6, label, noise)
    label[torch.rand(label.shape, generator=random) < 0.1] = 255
    confusion = sum(
        confusion_matrix(p.to(torch.uint8), t.to(torch.uint8), classes) for p, t in zip(prediction, label, strict=True)
    )
    scores = scores_from_confusion(confusion.numpy(), range(classes), (), [str(i) for i in range(classes)])
    iou = MulticlassJaccardIndex(classes, average=None, ignore_index=255)(prediction, label)
    recall = MulticlassAccuracy(classes, average=None, ignore_index=255)(prediction, label)
    assert math.isnan(scores.iou[-1])
    assert iou[-1] == 0  # torchmetrics gives 0 for a class that is nowhere; we leave it out of the mean
    np.testing.assert_allclose(scores.iou[:-1], iou[:-1].numpy(), rtol=1e-6)
    np.testing.assert_allclose(scores.accuracy[:-1], recall[:-1].numpy(), rtol=1e-6)
    assert scores.miou == pytest.approx(float(iou[:-1].mean()), rel=1e-6)
    micro = MulticlassAccuracy(classes, average="micro", ignore_index=255)(prediction, label)
    assert scores.pixel_accuracy == pytest.approx(float(micro), rel=1e-6)
