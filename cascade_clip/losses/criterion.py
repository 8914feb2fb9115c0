"""The training loss: weighted focal and dice, normalised by the number of masks in the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.losses.dice import dice_loss
from cascade_clip.losses.focal import focal_loss
from cascade_clip.losses.targets import IGNORED, count_masks, one_hot_masks


@dataclass(frozen=True)
class LossTerms:
    """Terms of one batch, already weighted: scalars with a gradient; `total` is their sum."""

    focal: Tensor
    dice: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.focal + self.dice


def segmentation_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    focal_weight: float = 100.0,
    dice_weight: float = 1.0,
    ignored: Literal["negative", "masked"] = "negative",
    num_masks: float | None = None,
) -> LossTerms:
    """Loss of mask logits on the patch grid against label maps (SPEC section 7).

    Args:
        logits: (B, K, h, w) summed mask logits; upsampled bilinearly (align_corners false) to the labels' size.
        labels: (B, H, W) int64, 0..K-1 and 255.
        focal_weight: Weight of the focal term.
        dice_weight: Weight of the dice term.
        ignored: Pixels labelled 255 are negatives of every class (released), or masked out of both terms.
        num_masks: N before the clamp at 1, where the batch is more than this call sees (gradient accumulation, several
            processes: N averaged over them); unset: counted here.
    """
    count = max(1.0, float(count_masks(labels)) if num_masks is None else num_masks)
    full = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    targets = one_hot_masks(labels, full.shape[1])
    valid = labels != IGNORED if ignored == "masked" else None
    return LossTerms(
        focal=focal_weight * focal_loss(full, targets, count, valid),
        dice=dice_weight * dice_loss(full, targets, count, valid),
    )
