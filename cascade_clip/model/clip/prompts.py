"""Prompts of the image encoder: learnable tokens that blocks see fresh, and a learnable filter (SPT-SEG)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


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


SPECTRAL_BLOCKS = 2
"""The first blocks, whose input gets the prompt; the released code computes it for the others and drops it."""


class SpectralPrompt(nn.Module):
    """Patches times class token, filtered over the grid; one weight for every block (SPEC section 16)."""

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        """Make a weight of N(0, 0.02²) for the real and imaginary parts.

        Args:
            grid: (h, w) of the patches that the weight is made for.
            width: W, width of the encoder.
        """
        super().__init__()
        self.grid = grid
        self.weight = nn.Parameter(0.02 * torch.randn(grid[0], grid[1] // 2 + 1, width, 2))

    def forward(self, patches: Tensor, class_token: Tensor, grid: tuple[int, int]) -> Tensor:
        """Give what is added to the patches at the input of a block.

        Args:
            patches: (B, N, W) patch tokens, N = h·w, row by row.
            class_token: (B, 1, W).
            grid: (h, w), any; on another grid than the weight's its kernel is cut or padded, see `resize_filter`.

        Returns:
            (B, N, W) of the patches' dtype; computed in float32, as half precision has no such transform.
        """
        product = (patches * class_token).float().unflatten(1, grid)
        weight = resize_filter(torch.view_as_complex(self.weight.float()), self.grid, grid)
        spectrum = torch.fft.rfft2(product, dim=(1, 2), norm="ortho") * weight
        filtered: Tensor = torch.fft.irfft2(spectrum, s=grid, dim=(1, 2), norm="ortho")
        return filtered.flatten(1, 2).to(patches.dtype)


def resize_filter(weight: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Bring a filter to another grid so that patches a given distance apart act on each other as before.

    The weight is the spectrum of a circular convolution. Its kernel keeps its centre: far offsets are cut on a smaller
    grid and zero on a larger one. (The released code knows one grid only.)

    Args:
        weight: (h, w // 2 + 1, W) complex, half spectrum over the grid.
        source: (h, w) of the weight.
        target: (h', w') wanted.

    Returns:
        (h', w' // 2 + 1, W) complex; the weight itself where the grids are the same.
    """
    if source == target:
        return weight
    kernel: Tensor = torch.fft.fftshift(torch.fft.irfft2(weight, s=source, dim=(0, 1)), dim=(0, 1))
    before = [new // 2 - old // 2 for old, new in zip(source, target, strict=True)]
    after = [new - old - first for old, new, first in zip(source, target, before, strict=True)]
    kernel = F.pad(kernel, (0, 0, before[1], after[1], before[0], after[0]))
    resized: Tensor = torch.fft.rfft2(torch.fft.ifftshift(kernel, dim=(0, 1)), dim=(0, 1))
    return resized
