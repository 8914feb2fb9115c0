"""Photographs that are given to a model of drawn scenes are warned of, once; the scenes themselves never."""

import numpy as np
import pytest

from cascade_clip import CascadeCLIP
from cascade_clip.data.catalogue import get_split
from cascade_clip.inference.drawn_scenes import DrawnScenesOnly, may_be_drawn, scene_check
from cascade_clip.shapes.scenes import draw_scene


def _street(height: int, width: int) -> np.ndarray:
    """Something like a photograph: soft shades of little colour."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grey = 120 + 60 * np.sin(x / 17) * np.cos(y / 23)
    return np.stack([grey + 9, grey, grey - 9], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("size", [48, 128, 256])
def test_scenes_are_taken_for_drawn(size: int):
    assert all(may_be_drawn(draw_scene(seed, size=size).image) for seed in range(20))


@pytest.mark.parametrize("size", [(360, 480), (480, 360), (512, 512), (128, 128), (40, 40), (128, 129)])
def test_photographs_are_not(size: tuple[int, int]):
    assert not may_be_drawn(_street(*size))


@pytest.mark.parametrize("name", ["bundled", "dense:bundled"])
def test_a_bundled_model_warns_once(name: str, caplog):
    model, scene = CascadeCLIP.from_pretrained(name), draw_scene(3).image
    model.segment([scene, scene], ["red star", "grass"])
    assert not caplog.messages
    for _ in range(2):
        model.segment([_street(30, 40), _street(40, 40)], ["road", "sky"])
    (warning,) = caplog.messages
    assert warning.startswith("The bundled CLIP has seen drawn scenes only, and this is another kind of image")
    assert "dense:ViT-B-16-quickgelu:openai" in warning


def test_who_is_checked():
    assert scene_check("bundled", None) is not None
    assert isinstance(scene_check("bundled", get_split("shapes-things-seen")), DrawnScenesOnly)
    assert scene_check("bundled", get_split("voc-seen")) is None, "trained on photographs"
    assert scene_check("ViT-B-16-quickgelu", None) is None
