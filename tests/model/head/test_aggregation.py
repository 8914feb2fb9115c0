"""Aggregations by hand (SPEC section 4; paper, Equation 4 and Table 8), and which settings make sense."""

import pytest
import torch
from torch import nn

from cascade_clip.config.recipes import load_recipe
from cascade_clip.config.schema import AggregationConfig
from cascade_clip.errors import UserError
from cascade_clip.extensions import AGGREGATIONS
from cascade_clip.model.build import build_aggregation
from cascade_clip.model.head.aggregation import BlockAttention, WeightedSum


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"kind": "sum"}, [1, 1, 1]),
        ({"kind": "gaussian"}, [0.135335, 0.606531, 1.0]),
        ({"kind": "gaussian", "formula": "paper"}, [0.011109, 0.135335, 0.606531]),
        ({"kind": "gaussian", "sigma": 2.0, "formula": "paper"}, [0.324652, 0.606531, 0.882497]),
    ],
)
def test_weighted_kinds_start_as_the_recipe_says(settings: dict, weights: list[float], train: bool):
    built = build_aggregation(AggregationConfig(train=train, **settings), 3, 8, 2)
    assert isinstance(built, WeightedSum)
    assert built.weights.tolist() == pytest.approx(weights, rel=1e-4)
    assert built.weights.requires_grad is train
    merged = built([torch.full((1, 2, 3), float(value)) for value in (1, 10, 100)])
    assert merged.unique().tolist() == pytest.approx([weights[0] + 10 * weights[1] + 100 * weights[2]], rel=1e-4)


def test_self_attention_is_torchs_over_the_blocks_of_each_location():
    torch.manual_seed(0)
    layer, tokens = BlockAttention(8, heads=2), [3 * torch.randn(2, 5, 8) for _ in range(3)]
    reference = nn.MultiheadAttention(8, 2, batch_first=True)
    reference.load_state_dict(
        {
            "in_proj_weight": layer.qkv.weight,
            "in_proj_bias": layer.qkv.bias,
            "out_proj.weight": layer.proj.weight,
            "out_proj.bias": layer.proj.bias,
        }
    )
    locations = torch.stack(tokens, dim=2).flatten(0, 1)
    attended, _ = reference(locations, locations, locations)
    torch.testing.assert_close(layer(tokens), attended.mean(dim=1).unflatten(0, (2, 5)))


@pytest.mark.parametrize("kind", AGGREGATIONS.names())
def test_locations_do_not_interact(kind: str):
    torch.manual_seed(0)
    merge, tokens = build_aggregation(AggregationConfig(kind=kind), 3, 8, 2), list(torch.randn(3, 2, 5, 8))
    merged = merge(tokens)
    assert merged.shape == (2, 5, 8)
    torch.testing.assert_close(merge([part[:, 1:3] for part in tokens]), merged[:, 1:3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "sum", "sigma": 2.0}, 'sigma and formula shape the Gaussian, which kind = "sum" has not'),
        ({"kind": "concat", "formula": "paper"}, 'which kind = "concat" has not: leave them out'),
        ({"kind": "self-attention", "train": False}, 'kind = "self-attention" starts from random weights'),
        ({"kind": "concat", "train": False}, 'leave train = false out, or take "gaussian" or "sum"'),
    ],
)
def test_settings_that_make_no_sense(settings: dict, message: str):
    with pytest.raises(UserError) as caught:
        load_recipe("coco/cascade-zegclip", changes={"model": {"aggregation": settings}})
    assert "model.aggregation: " in str(caught.value)
    assert message in str(caught.value)
