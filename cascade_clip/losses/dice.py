"""Dice loss over the masks of the classes that are present."""

from __future__ import annotations

import torch
from torch import Tensor


def dice_loss(logits: Tensor, targets: Tensor, num_masks: float, valid: Tensor | None = None) -> Tensor:
    """(1/N) Σ over classes present in their image of 1 − (2 Σ pT + 1) / (Σ p + Σ T + 1) (SPEC section 7).

    Without `valid` the sums run over all pixels, so that probability on ignored pixels is punished too, as released.

    Args:
        logits: (B, K, H, W) upsampled mask logits.
        targets: (B, K, H, W) float, 0 or 1.
        num_masks: N, at least 1.
        valid: (B, H, W) bool; only these pixels count.

    Returns:
        Scalar in [0, B·K / N]; 0 where no class is present.
    """
    probability = torch.sigmoid(logits)
    if valid is not None:
        probability = probability * valid[:, None].to(probability.dtype)
    overlap = (probability * targets).sum(dim=(2, 3))
    area = targets.sum(dim=(2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum(dim=(2, 3)) + area + 1)
    return (dice * (area > 0)).sum() / num_masks
