"""SSIM loss: how the structure of mask logits differs from that of the masks (SPT-SEG)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

SIDE, SIGMA = 11, 1.5
"""Side and width of the Gaussian window."""
C1, C2 = 1e-4, 9e-4
"""Keep the two quotients finite: (0.01 L)² and (0.03 L)² for masks of range L = 1."""


def ssim_loss(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 − mean SSIM of raw logits and masks, each map beyond its border taken as zero (SPEC section 16).

    The mean runs over images, classes and pixels, ignored ones included as released; it does not depend on the number
    of masks. Gives a scalar in [0, 2]; 0 where no pixel is valid.

    Args:
        logits: (B, K, H, W) float32, upsampled mask logits, no sigmoid.
        targets: (B, K, H, W) float32, 0 or 1.
        valid: (B, H, W) bool; other pixels are zero in both maps and left out of the mean of their image.
    """
    if valid is None:
        return 1 - _similarity(logits, targets).mean()
    counted = valid[:, None].to(logits.dtype)
    per_pixel = (1 - _similarity(logits * counted, targets * counted)).mean(dim=1) * valid
    return (per_pixel.sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=1)).mean()


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    """SSIM of every pixel's neighbourhood (B, K, H, W)."""
    mean_x, mean_y = _blur(x), _blur(y)
    # Variances are never negative but for rounding, which large logits would carry into the quotient. y² is y.
    var_x = (_blur(x * x) - mean_x**2).clamp(min=0)
    var_y = (mean_y - mean_y**2).clamp(min=0)
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance * (2 * covariance + C2) / (var_x + var_y + C2)


def _blur(x: Tensor) -> Tensor:
    """Weighted mean of each pixel's window, one axis after the other, each map (B, K, H, W) on its own."""
    offset = torch.arange(SIDE, dtype=x.dtype, device=x.device) - SIDE // 2
    weights = torch.exp(-0.5 * (offset / SIGMA) ** 2)
    maps = x.shape[1]
    kernel = (weights / weights.sum()).expand(maps, 1, 1, SIDE)
    rows = F.conv2d(x, kernel, padding=(0, SIDE // 2), groups=maps)
    return F.conv2d(rows, kernel.transpose(2, 3), padding=(SIDE // 2, 0), groups=maps)
