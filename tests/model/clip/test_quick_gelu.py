"""The lean activation is open_clip's in value and gradient, and keeps less."""

import pytest
import torch
from open_clip.transformer import QuickGELU
from torch import nn

from cascade_clip.config.schema import Recipe
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import load_clip
from cascade_clip.model.clip.open_clip_model import LeanQuickGELU


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_value_and_gradient(dtype: torch.dtype, tolerance: float):
    """Against double precision, far into both tails."""
    exact = torch.linspace(-40, 40, 2001, dtype=dtype).double().requires_grad_()
    weights = torch.linspace(-1, 1, 2001, dtype=dtype).double()
    expected = exact * torch.sigmoid(1.702 * exact)
    (slope,) = torch.autograd.grad(expected, exact, weights)
    x = exact.detach().to(dtype).requires_grad_()
    ours = LeanQuickGELU()(x)
    (our_slope,) = torch.autograd.grad(ours, x, weights.to(dtype))
    assert ours.dtype == our_slope.dtype == dtype
    torch.testing.assert_close(ours.double(), expected.detach(), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(our_slope.double(), slope, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        torch.testing.assert_close(LeanQuickGELU()(x), ours.detach(), rtol=0, atol=0)


def test_built_networks_use_it(tiny_recipe: Recipe):
    """In the image tower only; other activations stay, and so do the weights' names."""
    clip = load_clip(tiny_recipe.clip.architecture, tiny_recipe.clip.weights)
    clip.visual.transformer.resblocks[1].mlp.gelu = nn.GELU()
    names, kinds = set(clip.visual.state_dict()), [type(module) for module in clip.visual.modules()]
    build_network(tiny_recipe.model, clip.visual)
    assert set(clip.visual.state_dict()) == names
    replaced = [LeanQuickGELU if kind is QuickGELU else kind for kind in kinds]
    assert [type(module) for module in clip.visual.modules()] == replaced
    assert QuickGELU in kinds
