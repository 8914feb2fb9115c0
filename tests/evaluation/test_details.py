import math

import numpy as np
import pytest

from cascade_clip.evaluation.details import (
    ConfusedPair,
    ImageResult,
    example_images,
    image_result,
    largest_classes,
    most_confused,
)

NAMES = ("a", "b", "c")


def test_an_image_is_judged_by_the_classes_that_it_holds():
    # a: 6 of 8 right; b: only predicted, so 0; c: nowhere
    result = image_result("x", 5, [[6, 2, 0], [0, 0, 0], [0, 0, 0]])
    assert (result.id, result.index) == ("x", 5)
    assert result.miou == pytest.approx((6 / 8 + 0) / 2)
    assert result.pixel_accuracy == pytest.approx(6 / 8)
    unlabelled = image_result("x", 0, np.zeros((3, 3), np.int64))
    assert math.isnan(unlabelled.miou)
    assert math.isnan(unlabelled.pixel_accuracy)


def test_confused_pairs_by_pixels_with_their_share_of_the_true_class():
    confusion = np.array([[90, 10, 0], [4, 2, 4], [30, 0, 0]])
    assert most_confused(confusion, NAMES, 3) == [
        ConfusedPair("c", "a", 30, 1.0),
        ConfusedPair("a", "b", 10, 0.1),
        ConfusedPair("b", "a", 4, 0.4),  # as many as b taken for c, but a comes first
    ]
    assert len(most_confused(confusion, NAMES, 9)) == 4
    assert confusion[0, 0] == 90  # the caller's matrix is left alone


def results(*mious: float) -> list[ImageResult]:
    return [ImageResult(f"image-{index}", index, miou, miou) for index, miou in enumerate(mious)]


def test_best_median_and_worst_images():
    chosen = example_images(results(0.5, 0.9, 0.1, math.nan, 0.7, 0.3, 0.2, 0.8, 0.6, 0.4), 2)
    found = {group: [one.miou for one in images] for group, images in chosen.items()}
    assert found == {"best": [0.9, 0.8], "median": [0.6, 0.5], "worst": [0.1, 0.2]}


@pytest.mark.parametrize("count", range(14))
def test_no_image_is_an_example_twice(count: int):
    chosen = example_images(results(*np.linspace(0, 1, count)), 4)
    indices = [one.index for images in chosen.values() for one in images]
    assert len(set(indices)) == len(indices) == min(count, 12)


def test_largest_classes_without_those_that_no_label_holds():
    confusion = np.array([[1, 0, 5], [9, 9, 0], [0, 0, 0]])
    assert largest_classes(confusion, 9) == (1, 0)
    assert largest_classes(confusion, 1) == (1,)
