"""The training loss: weighted focal, and dice or SSIM, which compares the structure of mask logits and masks."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.labels import IGNORED
from cascade_clip.losses.focal_dice import focal_dice_loss, focal_loss
from cascade_clip.losses.targets import count_masks, one_hot_masks
from cascade_clip.runtime import without_autocast

RegionLoss = Literal["dice", "ssim"]
SIDE, SIGMA = 11, 1.5
"""Side and width of the Gaussian window."""
C1, C2 = 1e-4, 9e-4
"""Keep the two quotients finite: (0.01 L)² and (0.03 L)² for masks of range L = 1."""


@dataclass(frozen=True)
class LossTerms:
    """Loss of one batch and its terms, already weighted: float32 scalars.

    `total` is what is minimised and has a gradient; the terms are for showing. Of `dice` and `ssim` the one that was
    not asked for is 0.
    """

    total: Tensor
    focal: Tensor
    dice: Tensor
    ssim: Tensor


def segmentation_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    focal_weight: float = 100.0,
    dice_weight: float = 1.0,
    region: RegionLoss = "dice",
    ignored: Literal["negative", "masked"] = "negative",
    num_masks: float | Tensor | None = None,
    share: float = 1.0,
    present: Tensor | None = None,
) -> LossTerms:
    """Loss of mask logits on the patch grid against label maps (SPEC sections 7 and 16).

    Args:
        logits: (B, K, h, w) summed mask logits; upsampled bilinearly (align_corners false) to the labels' size.
        labels: (B, H, W) int64, 0..K-1 and 255.
        focal_weight: Weight of the focal term.
        dice_weight: Weight of the dice term, or of SSIM in its place.
        region: What stands beside the focal term: dice over the classes present, or SSIM over all (SPT-SEG).
        ignored: Pixels labelled 255 are negatives of every class (released), or masked out of both terms.
        num_masks: N before the clamp at 1, where the batch is more than this call sees (gradient accumulation, several
            processes: N averaged over them); None: counted here.
        share: Images of this call as a share (0..1] of the process's batch, where the rest is accumulated; SSIM, a mean
            over images that N does not divide, is multiplied by it.
        present: (B, K) bool on the CPU, which classes each image has; None: looked up in the labels.
    """
    if num_masks is None:
        num_masks = float(count_masks(labels))
    count = num_masks.clamp(min=1.0) if isinstance(num_masks, Tensor) else max(1.0, num_masks)
    if region == "dice":
        total, focal, dice = focal_dice_loss(
            logits,
            labels,
            count,
            focal_weight=focal_weight,
            dice_weight=dice_weight,
            masked=ignored == "masked",
            present=present,
        )
        return LossTerms(total, focal, dice, ssim=dice.new_zeros(()))
    full = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    targets = one_hot_masks(labels, full.shape[1])
    valid = labels != IGNORED if ignored == "masked" else None
    focal = focal_weight * focal_loss(full, targets, count, valid)
    ssim = dice_weight * share * ssim_loss(full, targets, valid)
    return LossTerms(focal + ssim, focal.detach(), dice=focal.new_zeros(()), ssim=ssim.detach())


def ssim_loss(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 − mean SSIM of raw logits and masks, each map beyond its border taken as zero (SPEC section 16).

    The mean runs over images, classes and pixels, ignored ones included as released; it does not depend on the number
    of masks. Gives a scalar in [0, 2]; 0 where no pixel is valid.

    Takes logits (B, K, H, W) float32, upsampled, no sigmoid, and targets of that shape, 0 or 1. Pixels that are not
    `valid`, (B, H, W) bool, are zero in both maps and left out of the mean of their image.
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
    var_y = mean_y - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance * (2 * covariance + C2) / (var_x + var_y + C2)


def _blur(x: Tensor) -> Tensor:
    """Weighted mean of each pixel's window, one axis after the other, each map (B, K, H, W) on its own."""
    offset = torch.arange(SIDE, dtype=x.dtype, device=x.device) - SIDE // 2
    weights = torch.exp(-0.5 * (offset / SIGMA) ** 2)
    maps = x.shape[1]
    kernel = (weights / weights.sum()).expand(maps, 1, 1, SIDE)
    # In half precision variances would be lost.
    with without_autocast(x.device):
        rows = F.conv2d(x, kernel, padding=(0, SIDE // 2), groups=maps)
        return F.conv2d(rows, kernel.transpose(2, 3), padding=(SIDE // 2, 0), groups=maps)
