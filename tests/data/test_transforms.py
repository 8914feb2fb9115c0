"""The training transform: sizes, the rule of the largest class, flip, padding, repetition."""

import numpy as np
import pytest

from cascade_clip.config.schema import DataConfig
from cascade_clip.data.transforms import TrainTransform, is_varied

PLAIN = DataConfig(
    short_side=16, long_side=64, crop=16, ratio=(1.0, 1.0), flip=0.0, photometric=False, mean=(0, 0, 0), std=(1, 1, 1)
)


def _picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel tells its own row and column; the label is the column's parity."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, rows], -1), columns % 2


def test_image_and_label_stay_together():
    image, label = _picture(16, 40)
    out, out_label, _ = TrainTransform(PLAIN)(image, label, np.random.default_rng(0))
    assert out.shape == (3, 16, 16)
    assert out.dtype == np.float32
    assert out_label.dtype == np.uint8
    assert np.array_equal(out[1] % 2, out_label)
    assert np.array_equal(np.diff(out[1][0]), np.ones(15))


def test_flip_turns_both():
    image, label = _picture(16, 40)
    out, out_label, _ = TrainTransform(PLAIN.changed(flip=1.0))(image, label, np.random.default_rng(0))
    assert np.array_equal(out[1] % 2, out_label)
    assert np.array_equal(np.diff(out[1][0]), -np.ones(15))


def test_small_images_are_padded_after_normalisation():
    image, label = np.full((16, 24, 3), 90, np.uint8), np.tile(np.array([0, 0, 1, 1], np.uint8), (16, 6))
    config = PLAIN.model_copy(update={"ratio": (0.5, 0.5), "mean": (80, 80, 80), "std": (10, 10, 10)})
    out, out_label, extent = TrainTransform(config)(image, label, np.random.default_rng(0))
    assert extent == (8, 12)
    assert (out[:, :8, :12] == 1).all()
    assert out.sum() == 3 * 8 * 12
    assert (out_label != 255).sum() == 8 * 12
    assert (out_label[:8, :12] != 255).all()


def test_colours_are_distorted_where_the_recipe_says_so():
    image, label = _picture(16, 16)
    distorted = TrainTransform(PLAIN.model_copy(update={"photometric": True}))
    crops = [
        transform(image, label, np.random.default_rng(1)).image for transform in (distorted, TrainTransform(PLAIN))
    ]
    assert not np.array_equal(*crops)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({0: 74, 1: 26}, True),
        ({0: 75, 1: 25}, False),
        ({0: 50}, False),
        ({255: 90, 0: 6, 1: 4}, True),
        ({255: 60, 0: 40}, False),
        ({255: 100}, False),
    ],
)
def test_rule_of_the_largest_class(counts: dict[int, int], expected: bool):
    label = np.repeat(list(counts), list(counts.values())).astype(np.uint8)
    assert is_varied(label[None], 0.75) is expected


def test_crops_of_one_class_are_avoided():
    image, _ = _picture(16, 200)
    label = np.zeros((16, 200), np.uint8)
    label[:, 150:] = 1
    varied = 0
    for seed in range(40):
        _, crop, _ = TrainTransform(PLAIN.changed(long_side=200))(image, label, np.random.default_rng(seed))
        varied += is_varied(crop, 0.75)
    # 7 of 185 places pass the rule: a single draw would find one or two in 40, eleven draws about 14.
    assert 6 < varied < 30
