"""How the blocks of one stage are merged into one map of patch tokens (paper, Equation 4 and Table 8).

The functions at the end build the modules from a recipe's settings; `cascade_clip.extensions.AGGREGATIONS` names them.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import AggregationConfig

GaussianFormula = Literal["released", "paper"]


def gaussian_weights(blocks: int, sigma: float = 1.0, formula: GaussianFormula = "released") -> Tensor:
    """Neighbourhood Gaussian weights (d,) float32 of a stage's d blocks, shallow to deep: in (0, 1], rising.

    Formula `released` is exp(-(d - l)² / 2σ²), so that the deepest block weighs 1; `paper` is Equation 4,
    exp(-(d - l + 1)² / 2σ²) (SPEC section 4; they differ by one in the distance). Sigma is above 0.
    """
    distance = torch.arange(blocks - 1, -1, -1, dtype=torch.float32) + (formula == "paper")
    return torch.exp(-0.5 * (distance / sigma) ** 2)


class WeightedSum(nn.Module):
    """A sum with one weight a block, neither weights nor result normalised (SPEC section 4).

    From Gaussian weights it is Neighbourhood Gaussian Aggregation (NGA), from ones the plain sum.
    """

    def __init__(self, weights: Tensor, *, train: bool = True) -> None:
        """Start from `weights` (d,), shallow to deep; `train` lets them move freely, as released."""
        super().__init__()
        self.weights = nn.Parameter(weights, requires_grad=train)

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Merge d maps (B, N, C), shallow to deep, into one (B, N, C)."""
        merged = self.weights[0] * tokens[0]
        for weight, block_tokens in zip(self.weights[1:], tokens[1:], strict=True):
            merged = merged + weight * block_tokens
        return merged


class Concatenation(nn.Module):
    """Channels of all blocks side by side, then one linear layer back to C."""

    def __init__(self, blocks: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(blocks * dim, dim)

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Merge d maps (B, N, C), shallow to deep, into one (B, N, C)."""
        return self.linear(torch.cat(list(tokens), dim=-1))


class BlockAttention(nn.Module):
    """Self-attention between a location's tokens of the d blocks; the mean of the d results is the merged token.

    The paper names "self-attention" without a formula. Over blocks it merges what the other aggregations merge;
    locations have already met inside CLIP.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Merge d maps (B, N, C) into one (B, N, C)."""
        blocks = torch.stack(list(tokens), dim=2)
        # (B, N, d, 3C) -> three times (B, N, heads, d, C / heads)
        query, key, value = self.qkv(blocks).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.mean(dim=-2).flatten(2))


class SingleBlock(nn.Module):
    """The stage of one block: its tokens as they are, without a weight (SPEC section 4)."""

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Return the only map (B, N, C)."""
        (only,) = tokens
        return only


def gaussian(config: AggregationConfig, blocks: int, dim: int, heads: int) -> WeightedSum:
    """Neighbourhood Gaussian aggregation."""
    return WeightedSum(gaussian_weights(blocks, config.sigma, config.formula), train=config.train)


def plain_sum(config: AggregationConfig, blocks: int, dim: int, heads: int) -> WeightedSum:
    """A sum whose weights start at one."""
    return WeightedSum(torch.ones(blocks), train=config.train)


def concatenation(config: AggregationConfig, blocks: int, dim: int, heads: int) -> Concatenation:
    """Channels side by side, then a linear layer."""
    return Concatenation(blocks, dim)


def self_attention(config: AggregationConfig, blocks: int, dim: int, heads: int) -> BlockAttention:
    """Self-attention between the blocks' tokens of a location."""
    return BlockAttention(dim, heads)
