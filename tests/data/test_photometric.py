"""Photometric operations against hand-computed values and the golden image."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from cascade_clip.data import photometric


def test_golden_image_is_equal_to_the_last_bit(golden: Path):
    arrays = load_file(golden / "preprocess" / "preprocess.safetensors")
    drawn = json.loads((golden / "preprocess" / "preprocess.json").read_text())["photo"]
    image = arrays["photo.in_rgb"]
    results = {
        "photo.brightness_rgb": photometric.brightness(image, drawn["brightness_beta"]),
        "photo.contrast_rgb": photometric.contrast(image, drawn["contrast_alpha"]),
        "photo.saturation_rgb": photometric.saturation(image, drawn["saturation_alpha"]),
        "photo.hue_rgb": photometric.hue(image, drawn["hue_delta"]),
        "photo.hsv_of_in": photometric.rgb_to_hsv(image),
    }
    for name, result in results.items():
        assert np.array_equal(result, arrays[name]), name


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
