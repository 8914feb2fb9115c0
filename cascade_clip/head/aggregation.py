"""How the blocks of one stage are merged into one map of patch tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

GaussianFormula = Literal["released", "paper"]


def gaussian_weights(blocks: int, sigma: float = 1.0, formula: GaussianFormula = "released") -> Tensor:
    """Neighbourhood Gaussian weights of a stage's d blocks, shallow to deep.

    Args:
        blocks: d, blocks of the stage.
        sigma: Width of the Gaussian, > 0.
        formula: `released`: exp(-(d - l)² / 2σ²), so that the deepest block weighs 1; `paper`: Equation 4,
            exp(-(d - l + 1)² / 2σ²) (SPEC section 4; they differ by one in the distance).

    Returns:
        (d,) float32 in (0, 1], rising, not normalised.
    """
    distance = torch.arange(blocks - 1, -1, -1, dtype=torch.float32)
    if formula == "paper":
        distance = distance + 1
    return torch.exp(-0.5 * (distance / sigma) ** 2)


class GaussianAggregation(nn.Module):
    """Neighbourhood Gaussian Aggregation: a weighted sum, neither weights nor result normalised (SPEC section 4)."""

    def __init__(
        self, blocks: int, *, sigma: float = 1.0, formula: GaussianFormula = "released", train: bool = True
    ) -> None:
        """Start from the Gaussian; `train` lets the weights move freely, as released."""
        super().__init__()
        self.weights = nn.Parameter(gaussian_weights(blocks, sigma, formula), requires_grad=train)

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Merge d maps (B, N, C), shallow to deep, into one (B, N, C)."""
        merged = self.weights[0] * tokens[0]
        for weight, block_tokens in zip(self.weights[1:], tokens[1:], strict=True):
            merged = merged + weight * block_tokens
        return merged


class SingleBlock(nn.Module):
    """The stage of one block: its tokens as they are, without a weight (SPEC section 4)."""

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Return the only map (B, N, C)."""
        (only,) = tokens
        return only
