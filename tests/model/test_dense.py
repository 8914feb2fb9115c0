"""Training-free segmentation: how models are named."""

from pathlib import Path

import pytest

from cascade_clip.errors import UserError
from cascade_clip.model.dense import load_dense
from cascade_clip.model.training_free import METHODS
from cascade_clip.segmenter import CascadeCLIP


def test_nothing_trained_is_nothing_to_save(tiny_clip_file: Path):
    model = CascadeCLIP.from_pretrained(f"dense-self:{tiny_clip_file}:random:3")
    assert model.recipe.inference.seen_bias == 0
    with pytest.raises(UserError, match="nothing was trained"):
        model.save_pretrained("x")


def test_the_bundled_clip_keeps_its_own_scale():
    network, clip, recipe = load_dense("dense:bundled")
    assert recipe.data.short_side == clip.visual.image_size[0] == recipe.inference.crop
    assert recipe.data.mean == pytest.approx((123.675, 116.28, 103.53), rel=1e-3)
    assert network.method is METHODS["scclip"]


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("dense:{}:random:3", "naclip"),
        ("dense:{}:random:3?method=maskclip", "maskclip"),
        ("dense:bundled", "scclip"),
        ("dense-self:bundled", "self_self"),
        ("dense-self:{}:random:3", "self_self"),
    ],
)
def test_a_name_tells_the_method(tiny_clip_file: Path, name: str, method: str):
    network, clip, recipe = load_dense(name.format(tiny_clip_file))
    assert network.method is METHODS[method]
    assert (clip.visual is network.visual) == (network.method.tower is None)
    assert recipe.name == name.format(tiny_clip_file)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("dense:bundled?method=naclp", '"naclp" is no training-free method. Did you mean "naclip"'),
        ("dense:bundled?method=", '"" is no training-free method. Known: '),
        ("dense:bundled?methd=naclip", 'sets "methd", which is no option: write dense:bundled?method=NAME'),
        ("dense:bundled?gem", 'sets "gem", which is no option'),
        ("dense:bundled?method=naclip&sigma=3", '"naclip&sigma=3" is no training-free method'),
        ("dense:{}:random:3?method=scclip", "SC-CLIP reads blocks by number and needs a CLIP of at least 11 blocks"),
        ("dense-self:bundled?method=naclip", "takes no option: write dense:bundled?method=naclip"),
        ("dense:", "open_clip knows no architecture"),
    ],
)
def test_a_wrong_name_is_told_in_a_sentence(tiny_clip_file: Path, name: str, problem: str):
    with pytest.raises(UserError) as raised:
        load_dense(name.format(tiny_clip_file))
    assert problem in str(raised.value)
