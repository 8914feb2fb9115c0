"""Position embeddings for any grid of patches."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the name every PyTorch reader knows)

PositionResize = Literal["bilinear", "bicubic-antialias"]


def resize_positions(
    positions: Tensor, source: tuple[int, int], target: tuple[int, int], mode: PositionResize
) -> Tensor:
    """Resize the spatial part of a position table to another grid; the class position stays (SPEC section 3.2).

    Args:
        positions: (1 + h·w, W) float, the class token's position first, then row by row.
        source: Grid (h, w) of the table.
        target: Grid (h', w') wanted.
        mode: `bilinear` without antialiasing, as released; `bicubic-antialias` as open_clip does.

    Returns:
        (1 + h'·w', W); the table itself where the grids are the same.
    """
    if source == target:
        return positions
    spatial = positions[1:].float().reshape(1, *source, -1).permute(0, 3, 1, 2)
    if mode == "bilinear":
        spatial = F.interpolate(spatial, size=target, mode="bilinear", align_corners=False)
    else:
        spatial = F.interpolate(spatial, size=target, mode="bicubic", antialias=True, align_corners=False)
    spatial = spatial.permute(0, 2, 3, 1).reshape(target[0] * target[1], -1)
    return torch.cat([positions[:1], spatial.to(positions.dtype)])
