"""CLIP's activation with one pass and one kept tensor in the backward pass instead of five and two."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

SLOPE = 1.702
"""x · sigmoid(1.702 x), as OpenAI trained with."""


class LeanQuickGELU(nn.Module):
    """x · sigmoid(1.702 x) = SiLU(1.702 x) / 1.702: open_clip's `QuickGELU` in value and gradient, up to rounding."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of any shape and float type to one of the same."""
        if torch.is_grad_enabled() and x.requires_grad:
            activated: Tensor = _QuickGELU.apply(x)
            return activated
        return _activate(SLOPE * x, inplace=True)


class _QuickGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scaled = SLOPE * x
        ctx.save_for_backward(scaled)
        return _activate(scaled)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (scaled,) = ctx.saved_tensors
        slope: Tensor = torch.ops.aten.silu_backward(gradient, scaled)
        return slope


def use_lean_activations(visual: nn.Module) -> None:
    """Put `LeanQuickGELU` in the place of every `QuickGELU` of an image tower; other activations stay."""
    for module in list(visual.modules()):
        for name, child in module.named_children():
            if type(child) is QuickGELU:
                setattr(module, name, LeanQuickGELU())


def _activate(scaled: Tensor, *, inplace: bool = False) -> Tensor:
    return F.silu(scaled, inplace=inplace).mul_(1 / SLOPE)
