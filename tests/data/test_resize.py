"""The integer resize against hand-computed values; tests/parity compares it with the golden images."""

from __future__ import annotations

import numpy as np
import pytest

from cascade_clip.data import resize


def test_a_long_side_beyond_its_limit_makes_the_short_one_less():
    assert resize.test_size(200, 1100, 512, 2048) == (372, 2048)


def test_training_size_fits_the_box_and_never_vanishes():
    assert resize.train_size(480, 640, 2048, 512, 0.5) == (256, 341)
    assert resize.train_size(100, 1000, 2048, 512, 1.0) == (205, 2048)
    assert resize.train_size(1, 4000, 64, 16, 0.5) == (1, 32)
    assert resize.train_size(4000, 1, 64, 16, 0.5) == (32, 1)


def test_equal_size_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(resize.resize_bilinear(image, 5, 7), image)
    assert np.array_equal(resize.resize_bilinear(image, 5, 7, (1, 2, 4, 6)), image[1:4, 2:6])


@pytest.mark.parametrize("size", [(90, 140), (31, 17), (40, 9)])
def test_a_window_equals_the_crop_of_the_whole(size: tuple[int, int]):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    window = (3, 2, 29, 8)
    whole = resize.resize_bilinear(image, *size)
    assert np.array_equal(resize.resize_bilinear(image, *size, window), whole[3:29, 2:8])
    labels = resize.resize_nearest(image[..., 0], *size)
    assert np.array_equal(resize.resize_nearest(image[..., 0], *size, window), labels[3:29, 2:8])


def test_labels_take_the_floor():
    label = np.array([[0, 1, 2, 3, 4]], np.uint8)
    assert resize.resize_nearest(label, 1, 3).tolist() == [[0, 1, 3]]
    assert resize.resize_nearest(label, 2, 10).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]] * 2
