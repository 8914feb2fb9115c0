"""Neighbourhood Gaussian aggregation by hand (SPEC section 4)."""

from __future__ import annotations

import pytest
import torch

from cascade_clip.head.aggregation import GaussianAggregation, SingleBlock, gaussian_weights


@pytest.mark.parametrize(
    ("formula", "sigma", "expected"),
    [
        ("released", 1.0, [0.1353, 0.6065, 1.0]),
        ("paper", 1.0, [0.0111, 0.1353, 0.6065]),
        ("released", 2.0, [0.6065, 0.8825, 1.0]),
    ],
)
def test_weights(formula: str, sigma: float, expected: list[float]) -> None:
    assert gaussian_weights(3, sigma, formula).tolist() == pytest.approx(expected, abs=5e-5)


def test_a_weighted_sum_that_is_not_normalised() -> None:
    tokens = [torch.full((1, 2, 3), float(value)) for value in (1, 10, 100)]
    merged = GaussianAggregation(3)(tokens)
    assert merged.unique().tolist() == pytest.approx([0.1353353 + 6.065307 + 100], rel=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_training_is_a_choice(train: bool) -> None:
    assert GaussianAggregation(2, train=train).weights.requires_grad is train


def test_single_block_is_left_alone() -> None:
    tokens = torch.randn(1, 2, 3)
    assert SingleBlock()([tokens]) is tokens
    with pytest.raises(ValueError, match="too many values"):
        SingleBlock()([tokens, tokens])
