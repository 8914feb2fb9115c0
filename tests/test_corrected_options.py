"""Options that correct the released code (SPEC section 14), from the recipe's key to what it does; off by default."""

import pytest
import torch

from cascade_clip.config.recipes import load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.training.step import build_optimizer, trainable_parameters


def _recipe(*overrides: str) -> Recipe:
    tiny = ["model.stages=[[1, 2], [3], [4]]", "model.prompts.tokens=2", "model.decoder.heads=4"]
    return load_recipe("coco/cascade-zegclip", [*tiny, *overrides])


def _network(tiny_clip: Clip, recipe: Recipe) -> CascadeNetwork:
    torch.manual_seed(0)
    return build_network(recipe.model, tiny_clip.visual)


@pytest.mark.parametrize("train", ["true", "false"])
@pytest.mark.parametrize("init", ["random", "clip"])
def test_stage_projections_from_clip_and_trained(tiny_clip: Clip, init: str, train: str):
    """Row a."""
    recipe = _recipe(f"model.stage_projection.init={init}", f"model.stage_projection.train={train}")
    network = _network(tiny_clip, recipe)
    tap, visual = network.encoder.tap_projections["2"], tiny_clip.visual
    assert torch.equal(tap.proj, visual.proj) is (init == "clip")
    network(torch.randn(1, 3, 64, 64), torch.randn(3, 32)).square().sum().backward()
    assert (tap.proj.grad is not None) is (train == "true")
    assert (tap.norm.weight.grad is not None) is (train == "true")
    assert visual.proj.grad is None


@pytest.mark.parametrize("decay_norms", [True, False])
def test_norms_without_decay(tiny_clip: Clip, decay_norms: bool):
    """Row e: at a gradient of zero AdamW does nothing but decay."""
    recipe = _recipe(f"train.decay_norms={str(decay_norms).lower()}", "model.stage_projection.train=true")
    network = _network(tiny_clip, recipe)
    trainable = trainable_parameters(network)
    with torch.no_grad():
        for parameter in trainable.values():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    build_optimizer(network, recipe.train).step()
    decayed = {name for name, parameter in trainable.items() if (parameter < 1).all()}
    one_dimensional = {name for name, parameter in trainable.items() if parameter.ndim == 1}
    assert {"encoder.prompt_norm.weight", "head.decoders.0.layers.0.norm_attention.bias"} <= one_dimensional
    assert decayed == set(trainable) - (set() if decay_norms else one_dimensional)
