"""Focal and dice loss in one pass over pieces of the upsampled masks, which never exist as a whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.losses.focal import ALPHA
from cascade_clip.losses.targets import IGNORED

_CPU_PIECE, _GPU_PIECE = 1 << 19, 1 << 25
"""Upsampled values that are worked on at once: what stays in a processor's cache, or keeps a GPU busy."""


def focal_dice_loss(
    logits: Tensor, labels: Tensor, num_masks: float, *, focal_weight: float, dice_weight: float, masked: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted focal and dice loss of mask logits on the patch grid (SPEC section 7).

    Equal to upsampling the logits and applying `focal_loss` and dice, (1/N) Σ over classes present in their image of
    1 − (2 Σ pT + 1) / (Σ p + Σ T + 1), in value and gradient, up to rounding. Every class but one is a negative at a
    pixel, so the focal term is that of an all-negative target and a correction on the positive pixels; the gradient is
    computed together with the value, piece by piece. Probability on ignored pixels counts as wrong, unless `masked`.

    Args:
        logits: (B, K, h, w) float; upsampled bilinearly (align_corners false) to the labels' size.
        labels: (B, H, W) int64, 0..K-1 and 255.
        num_masks: N, at least 1.
        focal_weight: Weight of the focal term.
        dice_weight: Weight of the dice term.
        masked: Pixels labelled 255 are left out of both terms, instead of being negatives of every class.

    Returns:
        Total (with a gradient), focal and dice (both without): float32 scalars, weighted.
    """
    total, focal, dice = _FocalDice.apply(logits, labels, num_masks, focal_weight, dice_weight, masked)
    return total, focal, dice


class _FocalDice(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        num_masks: float,
        focal_weight: float,
        dice_weight: float,
        masked: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gradient = torch.empty_like(logits, dtype=torch.float32)
        focal = logits.new_zeros((), dtype=torch.float32)
        dice = focal.clone()
        height, width = labels.shape[-2:]
        piece = max(1, (_GPU_PIECE if logits.is_cuda else _CPU_PIECE) // (height * width))
        for image, label, image_gradient in zip(logits.float(), labels, gradient, strict=True):
            valid = (label != IGNORED).float() if masked else None
            pixels = valid.sum().clamp(min=1) if valid is not None else float(height * width)
            for first in range(0, len(image), piece):
                part = slice(first, first + piece)
                x = F.interpolate(image[None, part], size=label.shape, mode="bilinear", align_corners=False)[0]
                at, here = _positives(label, first, len(x))
                p = torch.sigmoid(x)
                value, slope = _focal(x, p, at, here, valid)
                focal += value / pixels
                slope *= focal_weight / (num_masks * pixels)
                dice += _add_dice(slope, p, at, here, valid, dice_weight / num_masks)
                image_gradient[part] = torch.ops.aten.upsample_bilinear2d_backward(
                    slope[None], list(label.shape), [1, *image[part].shape], False
                )[0]
        ctx.save_for_backward(gradient.to(logits.dtype))
        focal, dice = focal * (focal_weight / num_masks), dice * (dice_weight / num_masks)
        ctx.mark_non_differentiable(focal, dice)
        return focal + dice, focal, dice

    @staticmethod
    def backward(ctx: Any, total: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * total, None, None, None, None, None


def _positives(label: Tensor, first: int, classes: int) -> tuple[Tensor, Tensor]:
    """Each pixel's class among `classes` from `first` on: indices (1, H, W), and whether it is among them."""
    place = (label - first)[None]
    here = (place >= 0) & (place < classes) & (label != IGNORED)
    return place.clamp(0, classes - 1), here


def _focal(x: Tensor, p: Tensor, at: Tensor, here: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sum over classes and pixels of the focal loss of logits x (k, H, W), and its slope (k, H, W)."""
    surprise = F.softplus(x)
    square = (p * p).mul_(1 - ALPHA)
    loss = square * surprise
    slope = torch.addcmul(p, 1 - p, surprise, value=2).mul_(square)
    x_here, p_here = x.gather(0, at), p.gather(0, at)
    miss = (1 - p_here) ** 2 * ALPHA
    relief = F.softplus(-x_here)
    loss_here = torch.where(here, miss * relief - loss.gather(0, at), 0.0)
    slope_here = miss * (p_here - 1 - 2 * p_here * relief)
    slope.scatter_(0, at, torch.where(here, slope_here, slope.gather(0, at)))
    if valid is None:
        return loss.sum() + loss_here.sum(), slope
    return (loss.sum(0) * valid).sum() + (loss_here[0] * valid).sum(), slope.mul_(valid)


def _add_dice(slope: Tensor, p: Tensor, at: Tensor, here: Tensor, valid: Tensor | None, weight: float) -> Tensor:
    """Sum of 1 - (2 Σ pT + 1) / (Σ p + Σ T + 1) over the classes present; adds `weight` times its slope to `slope`."""
    area = torch.zeros(len(p), device=p.device).index_add_(0, at.flatten(), here.flatten().float())
    present = area.nonzero()[:, 0]
    if not len(present):
        return area.new_zeros(())
    area, p = area[present], p[present]
    target = (at == present[:, None, None]) & here
    weighted = p if valid is None else p * valid
    overlap = (weighted * target).sum((1, 2))
    whole = weighted.sum((1, 2)) + area + 1
    by_area = ((2 * overlap + 1) / whole**2)[:, None, None]
    by_target = (2 / whole)[:, None, None]
    step = (by_area - by_target * target).mul_(p).mul_(1 - p).mul_(weight)
    slope.index_add_(0, present, step if valid is None else step * valid)
    return (1 - (2 * overlap + 1) / whole).sum()
