import numpy as np
import pytest

from cascade_clip.shapes.textures import TEXTURES, cell_bank, noise_bank


@pytest.mark.parametrize("name", list(TEXTURES))
def test_texture_fills_the_field_with_visible_structure(name):
    field = TEXTURES[name](np.random.default_rng(0), 64, 96)
    assert field.shape == (64, 96, 3)
    assert np.isfinite(field).all()
    assert field.min() > -40
    assert field.max() < 330
    assert field.std(axis=(0, 1)).max() > 3


def test_textures_are_told_apart_by_colour_or_contrast():
    looks = []
    for draw in TEXTURES.values():
        field = draw(np.random.default_rng(1), 128, 128)
        looks.append(np.concatenate([field.mean((0, 1)), field.std((0, 1))]))
    table = np.stack(looks)
    gaps = np.linalg.norm(table[:, None] - table[None], axis=-1) + 1e6 * np.eye(len(table))
    assert gaps.min() > 8


def test_noise_has_the_asked_mean_and_smoothness():
    fine, coarse = noise_bank(0.4, 0.4), noise_bank(9, 9)
    assert fine.mean() == pytest.approx(0.5, abs=0.01)
    assert np.abs(np.diff(coarse, axis=1)).mean() < 0.2 * np.abs(np.diff(fine, axis=1)).mean()


def test_cells_have_borders_at_zero_and_tones_in_range():
    border, tone = cell_bank(16)
    assert border.min() >= 0
    assert border.min() < 0.1
    assert 0 <= tone.min() < tone.max() <= 1
