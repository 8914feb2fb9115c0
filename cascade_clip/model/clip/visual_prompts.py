"""Deep visual prompts: learnable tokens that every block sees fresh."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class VisualPrompts(nn.Module):
    """P learnable tokens for each of the first `depth` blocks, through one shared projection (SPEC section 3.4)."""

    def __init__(self, tokens: int, depth: int, width: int, patch_size: int, dropout: float = 0.1) -> None:
        """Make the prompts with the released initial distributions (golden `init`).

        Args:
            tokens: P, prompt tokens a block.
            depth: Blocks that see prompts, from the first on.
            width: W, width of the encoder.
            patch_size: Side of a patch in pixels; it enters the bound of the initial distribution.
            dropout: Dropout of the projected prompts, drawn for each image.
        """
        super().__init__()
        bound = math.sqrt(6 / (3 * patch_size**2 + width))
        self.embeddings = nn.Parameter(torch.empty(depth, tokens, width).uniform_(-bound, bound))
        self.proj = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.proj.weight, a=0, mode="fan_out")
        self.dropout = nn.Dropout(dropout)

    @property
    def depth(self) -> int:
        """Blocks that see prompts."""
        return self.embeddings.shape[0]

    @property
    def tokens(self) -> int:
        """Prompt tokens a block."""
        return self.embeddings.shape[1]

    def forward(self, block: int, batch: int) -> Tensor:
        """Prompt tokens at the input of one block.

        Args:
            block: 0-based block, below `depth`.
            batch: B, images.

        Returns:
            (B, P, W); dropout masks differ from image to image.
        """
        projected: Tensor = self.proj(self.embeddings[block])
        dropped: Tensor = self.dropout(projected.expand(batch, -1, -1))
        return dropped
