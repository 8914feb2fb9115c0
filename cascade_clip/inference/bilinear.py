"""Bilinear resizing of scores, value by value.

Every product and sum is rounded on its own. PyTorch's kernel gives the same values but for the last bit, which there
depends on how many maps are resized at once and on threads: here a value depends on its four neighbours alone, so that
any part of a map, and any choice of maps, equals the same part of the whole.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Taps(NamedTuple):
    """What an axis of the result reads: two neighbours a position, and their weights."""

    start: int
    """First source index that is read."""
    stop: int
    """End of the source indices that are read."""
    lower: Tensor
    """(n,) int64 first neighbour, counted from `start`."""
    upper: Tensor
    """(n,) int64 second neighbour, counted from `start`."""
    lower_weight: Tensor
    """(n,) float32, 1 - `upper_weight`."""
    upper_weight: Tensor
    """(n,) float32 in [0, 1]."""


def taps(source: int, target: int, positions: Tensor, device: torch.device) -> Taps:
    """Neighbours and weights as PyTorch's `interpolate` has them (bilinear, align_corners False).

    Args:
        source: Length of the axis.
        target: Length of the whole result.
        positions: (n,) int64 on the CPU, positions of the result, at least one, in any order.
        device: Where the taps are used.
    """
    scale = torch.tensor(source / target, dtype=torch.float32)
    place = ((positions.float() + 0.5) * scale - 0.5).clamp_(min=0)
    lower = place.long().clamp_(max=source - 1)
    upper = (lower + 1).clamp_(max=source - 1)
    weight = (place - lower).clamp_(max=1)
    start, stop = int(lower.min()), int(upper.max()) + 1
    return Taps(
        start,
        stop,
        (lower - start).to(device),
        (upper - start).to(device),
        (1 - weight).to(device),
        weight.to(device),
    )


def resample(maps: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Maps (S, h, w) float32 at the positions of both axes, columns first: (S, rows, columns), a new tensor."""
    part = maps[:, rows.start : rows.stop, columns.start : columns.stop]
    across = part.index_select(2, columns.lower).mul_(columns.lower_weight)
    across += part.index_select(2, columns.upper).mul_(columns.upper_weight)
    down = across.index_select(1, rows.lower).mul_(rows.lower_weight[:, None])
    return down.add_(across.index_select(1, rows.upper).mul_(rows.upper_weight[:, None]))
