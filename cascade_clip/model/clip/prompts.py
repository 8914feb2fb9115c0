"""Prompts of the image encoder: learnable tokens that blocks see fresh, and a learnable filter (SPT-SEG)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class VisualPrompts(nn.Module):
    """P learnable tokens for each of the first `depth` blocks, through one shared projection (SPEC section 3.4)."""

    def __init__(self, tokens: int, depth: int, width: int, patch_size: int, dropout: float = 0.1) -> None:
        """P `tokens` for each of `depth` blocks of `width` W, with the released initial distributions (golden `init`).

        `patch_size`, in pixels, enters the bound of the initial distribution; dropout is drawn for each image.
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
        """Prompt tokens (B, P, W) at the input of a block, 0-based and below `depth`, for a batch of B images."""
        return self.dropout(self.proj(self.embeddings[block]).expand(batch, -1, -1))


SPECTRAL_BLOCKS = 2
"""The first blocks, whose input gets the prompt; the released code computes it for the others and drops it."""


class SpectralPrompt(nn.Module):
    """Patches times class token, filtered over the grid; one weight for every block (SPEC section 16)."""

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        """Draw real and imaginary parts of a weight for a grid (h, w) of patches of `width` W from N(0, 0.02²)."""
        super().__init__()
        self.grid = grid
        self.weight = nn.Parameter(0.02 * torch.randn(grid[0], grid[1] // 2 + 1, width, 2))

    def forward(self, patches: Tensor, class_token: Tensor, grid: tuple[int, int]) -> Tensor:
        """Addition (B, N, W) to the patches (B, N, W) at the input of a block, from them and the class token (B, 1, W).

        It is computed in float32, as the transform needs it. On another grid (h, w) than the weight's its kernel is cut
        or padded, see `resize_filter`.
        """
        product = (patches * class_token).float().unflatten(1, grid)
        weight = resize_filter(torch.view_as_complex(self.weight.float()), self.grid, grid)
        spectrum = torch.fft.rfft2(product, dim=(1, 2), norm="ortho") * weight
        return torch.fft.irfft2(spectrum, s=grid, dim=(1, 2), norm="ortho").flatten(1, 2).to(patches.dtype)


def resize_filter(weight: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Bring a filter to another grid so that patches a given distance apart act on each other as before.

    The weight (h, w // 2 + 1, W) complex is the half spectrum of a circular convolution on the grid (h, w), returned as
    it is where the grids are the same. Its kernel keeps its centre: far offsets are cut on a smaller grid and zero on a
    larger one. (The released code knows one grid only.)
    """
    if source == target:
        return weight
    kernel: Tensor = torch.fft.fftshift(torch.fft.irfft2(weight, s=source, dim=(0, 1)), dim=(0, 1))
    before = [new // 2 - old // 2 for old, new in zip(source, target, strict=True)]
    after = [new - old - first for old, new, first in zip(source, target, before, strict=True)]
    kernel = F.pad(kernel, (0, 0, before[1], after[1], before[0], after[0]))
    return torch.fft.rfft2(torch.fft.ifftshift(kernel, dim=(0, 1)), dim=(0, 1))
