import numpy as np
import pytest
import torch
from PIL import Image

from cascade_clip.errors import UserError
from cascade_clip.inference.inputs import rgb_pixels


def test_open_images_and_arrays_keep_the_rules_of_files():
    with pytest.raises(UserError, match="The PIL image holds floating-point values"):
        rgb_pixels(Image.new("F", (2, 2)))
    for image in (Image.new("L", (1, 500)), np.zeros((500, 1, 3), np.uint8)):
        with pytest.raises(UserError, match="has 1 x 500 pixels: the longer side may have"):
            rgb_pixels(image)
    assert rgb_pixels(Image.new("LA", (2, 1), (0, 0))).tolist() == [[[255] * 3] * 2]


def test_tensors_are_the_images_they_hold():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for given in (tensor, tensor / 255, (tensor / 255).double(), tensor.clone().requires_grad_(False)):
        assert np.array_equal(rgb_pixels(given), pixels)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(5, 7, 3), r"tensor of shape \(5, 7, 3\) does not fit: \(3, H, W\) is wanted; permute it"),
        (torch.zeros(2, 3, 5, 7), r"shape \(2, 3, 5, 7\) .*; give a list of its images"),
        (torch.zeros(3, 1, 500), "has 1 x 500 pixels|has 500 x 1 pixels|the longer side may have"),
        (torch.full((3, 4, 4), 1.5), "holds values from 1.5 to 1.5: floating-point ones are RGB in"),
        (torch.full((3, 4, 4), torch.nan), "not normalised"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "type torch.int64 does not fit: uint8"),
    ],
)
def test_tensors_that_are_refused(tensor: torch.Tensor, message: str):
    with pytest.raises(UserError, match=message):
        rgb_pixels(tensor)
