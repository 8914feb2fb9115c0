import numpy as np
import pytest

from cascade_clip.shapes.textures import TEXTURES


@pytest.mark.parametrize("name", list(TEXTURES))
def test_texture_fills_the_field_with_visible_structure(name):
    field = TEXTURES[name](np.random.default_rng(0), 64, 96)
    assert field.shape == (64, 96, 3)
    assert np.isfinite(field).all()
    assert field.min() > -40
    assert field.max() < 330
    assert field.std(axis=(0, 1)).max() > 3
