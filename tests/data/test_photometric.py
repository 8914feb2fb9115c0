"""Photometric operations against hand-computed values; tests/parity compares them with the golden image."""

from __future__ import annotations

import numpy as np

from cascade_clip.data import photometric


def test_values_are_clipped_and_truncated():
    image = np.array([[[0, 101, 250]]], np.uint8)
    assert photometric.brightness(image, 10.9).ravel().tolist() == [10, 111, 255]
    assert photometric.brightness(image, -20.5).ravel().tolist() == [0, 80, 229]
    assert photometric.contrast(image, 1.5).ravel().tolist() == [0, 151, 255]


def test_distortion_repeats_and_leaves_some_images_alone():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    before = image.copy()
    results = [photometric.photometric_distortion(image, np.random.default_rng(seed)) for seed in range(64)]
    again = photometric.photometric_distortion(image, np.random.default_rng(5))
    assert np.array_equal(results[5], again)
    assert np.array_equal(image, before)
    # Four coins decide: one image in sixteen stays as it is.
    assert 0 < sum(np.array_equal(result, image) for result in results) < 16
