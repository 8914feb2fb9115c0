import numpy as np
import pytest
import torch

from cascade_clip.analysis.observed_model import block_tokens, encoder_of
from cascade_clip.analysis.similarity import PatchSimilarity, centre_of_mask, patch_similarity, patches_of_mask
from cascade_clip.data.resize import resize_bilinear
from cascade_clip.data.transforms import normalise
from cascade_clip.errors import UserError
from cascade_clip.segmenter import CascadeCLIP

IMAGE = np.random.default_rng(0).integers(0, 255, (70, 110, 3), dtype=np.uint8)


def test_cosines_of_the_raw_tokens_after_every_block(tiny_model: CascadeCLIP):
    encoder, data = encoder_of(tiny_model.network), tiny_model.recipe.data
    found = patch_similarity("tiny", encoder, IMAGE, (80, 10), data, tiny_model.device)
    # 64 x 101 after the resize: 4 x 6 patches; pixel (80, 10) of 110 x 70 lies in the first row and fifth column.
    assert found.cosine.shape == (4, 4, 6)
    assert found.patch == (0, 4)
    pixels = torch.from_numpy(normalise(resize_bilinear(IMAGE, 64, 96), data.mean, data.std))
    for cosine, tokens in zip(found.cosine, block_tokens(encoder, pixels[None]).patch_tokens, strict=True):
        expected = torch.cosine_similarity(tokens[0], tokens[0, 4], dim=-1).reshape(4, 6)
        np.testing.assert_allclose(cosine, expected.numpy(), atol=1e-5)
        assert cosine[0, 4] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("point", [(0, 0), (109, 0), (0, 69), (109, 69)])
def test_corners_lie_in_the_corner_patches(tiny_model: CascadeCLIP, point: tuple[int, int]):
    found = patch_similarity(
        "tiny", encoder_of(tiny_model.network), IMAGE, point, tiny_model.recipe.data, tiny_model.device
    )
    assert found.patch == (3 if point[1] else 0, 5 if point[0] else 0)


def test_an_endless_strip_is_refused(tiny_model: CascadeCLIP):
    strip = np.zeros((1, 2000, 3), np.uint8)
    with pytest.raises(UserError, match=r"2000 x 1 pixels: with its short side at 64 it has 32,000 patches"):
        patch_similarity(
            "tiny", encoder_of(tiny_model.network), strip, (0, 0), tiny_model.recipe.data, tiny_model.device
        )


def test_means_leave_the_patch_itself_out():
    cosine = np.array([[[1.0, 0.5], [0.1, 0.3]]], np.float32)
    similarity = PatchSimilarity("m", cosine, (0, 0))
    assert similarity.means() == [pytest.approx(0.3)]
    assert similarity.means(np.array([[True, True], [False, False]])) == [pytest.approx(0.5)]
    assert similarity.means(np.array([[True, False], [False, False]])) == [None]


def test_patches_of_a_mask_lie_in_it_by_half():
    mask = np.zeros((8, 8), bool)
    mask[:, :2] = True
    mask[:4, 4:7] = True
    assert patches_of_mask(mask, (2, 2)).tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([np.s_[5:10, 5:10], np.s_[30:50, 40:60]], (50, 40)),
        ([np.s_[7, 3:50]], (26, 7)),
        ([np.s_[59, 79]], (79, 59)),
        ([np.s_[:, :]], (40, 30)),
    ],
)
def test_the_centre_is_that_of_the_largest_square(parts: list[tuple[slice, slice]], expected: tuple[int, int]):
    mask = np.zeros((60, 80), bool)
    for part in parts:
        mask[part] = True
    px, py = centre_of_mask(mask)
    assert mask[py, px]
    assert np.abs(np.subtract((px, py), expected)).max() <= 1


def test_the_centre_lies_well_inside_rings_and_corners():
    corner = np.zeros((60, 80), bool)
    corner[:40, :10] = corner[30:40, :] = True
    distance = np.hypot(*(np.mgrid[:60, :80] - np.array([30, 40])[:, None, None]))
    for mask in (corner, (distance < 25) & (distance > 14)):
        px, py = centre_of_mask(mask)
        assert mask[py - 3 : py + 4, px - 3 : px + 4].all()
