"""PAMR: weighted means of neighbours, whatever the sizes."""

import pytest
import torch

from cascade_clip.model.pamr import MAPS_AT_ONCE, ROWS_AT_ONCE, refine_maps

GENERATOR = torch.Generator().manual_seed(0)


def test_scores_stay_on_their_side_of_an_edge():
    image = torch.zeros(1, 3, 24, 40)
    image[..., 20:] = 2.0
    maps = torch.rand(1, 2, 24, 40, generator=GENERATOR)
    maps[:, 0, :, :20] += 2.0
    refined = refine_maps(image, maps, steps=10, dilations=(1, 2))
    assert bool((refined[0, 0, :, :20] > 1.9).all())
    assert bool((refined[0, 0, :, 20:] < 1.1).all())


@pytest.mark.parametrize("classes", [1, MAPS_AT_ONCE, MAPS_AT_ONCE + 3])
@pytest.mark.parametrize("size", [(1, 1), (ROWS_AT_ONCE + 1, 9)])
def test_maps_and_images_do_not_depend_on_each_other(classes: int, size: tuple[int, int]):
    images, maps = (torch.rand(2, channels, *size, generator=GENERATOR) for channels in (3, classes))
    together = refine_maps(images, maps, steps=3, dilations=(1, 8))
    alone = refine_maps(images[1:], maps[1:, -1:], steps=3, dilations=(1, 8))
    torch.testing.assert_close(together[1:, -1:], alone, rtol=0, atol=1e-6)
    assert float(together.min()) >= float(maps.min()) - 1e-6
    assert float(together.max()) <= float(maps.max()) + 1e-6


def test_half_precision_around_it_changes_nothing():
    image, maps = torch.rand(1, 3, 8, 8, generator=GENERATOR), torch.rand(1, 2, 8, 8, generator=GENERATOR)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = refine_maps(image, maps)
    torch.testing.assert_close(mixed, refine_maps(image, maps), rtol=0, atol=0)
