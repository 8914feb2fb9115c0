"""Focal loss over per-class masks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

ALPHA = 0.25


def focal_loss(logits: Tensor, targets: Tensor, num_masks: float | Tensor, valid: Tensor | None = None) -> Tensor:
    """(1/N) Σ over images and classes of the mean over pixels of α_t · BCE · (1 − p_t)² (SPEC section 7).

    All B·K maps count, and without `valid` an ignored pixel is a negative of every class, as released.

    Args:
        logits: (B, K, H, W) upsampled mask logits.
        targets: (B, K, H, W) float, 0 or 1.
        num_masks: N, at least 1.
        valid: (B, H, W) bool; only these pixels count, and the mean divides by their number.

    Returns:
        Scalar, ≥ 0.
    """
    probability = torch.sigmoid(logits)
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    p_t = probability * targets + (1 - probability) * (1 - targets)
    alpha_t = ALPHA * targets + (1 - ALPHA) * (1 - targets)
    loss = alpha_t * bce * (1 - p_t) ** 2
    if valid is None:
        return loss.mean(dim=(2, 3)).sum() / num_masks
    counted = valid[:, None].to(loss.dtype)
    per_map = (loss * counted).sum(dim=(2, 3)) / counted.sum(dim=(2, 3)).clamp(min=1)
    return per_map.sum() / num_masks
