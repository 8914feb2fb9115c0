"""The training loss: weighted focal, and dice or SSIM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.labels import IGNORED
from cascade_clip.losses.focal import focal_loss
from cascade_clip.losses.focal_dice import focal_dice_loss
from cascade_clip.losses.ssim import ssim_loss
from cascade_clip.losses.targets import count_masks, one_hot_masks

RegionLoss = Literal["dice", "ssim"]


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
