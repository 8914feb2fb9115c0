"""Focal loss of whole masks, and focal and dice loss in one pass over pieces of masks, which never exist as a whole."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.labels import IGNORED
from cascade_clip.losses.targets import present_classes
from cascade_clip.runtime import without_autocast

ALPHA = 0.25
_CPU_PIECE, _GPU_PIECE = 1 << 18, 1 << 25
"""Upsampled values that are worked on at once: what stays in a processor's cache, or keeps a GPU busy."""


def focal_loss(logits: Tensor, targets: Tensor, num_masks: float | Tensor, valid: Tensor | None = None) -> Tensor:
    """(1/N) Σ over images and classes of the mean over pixels of α_t · BCE · (1 − p_t)² (SPEC section 7).

    All B·K maps count, and without `valid` an ignored pixel is a negative of every class, as released.

    Takes upsampled mask logits (B, K, H, W), targets of that shape, 0 or 1, and N, at least 1. Of pixels that are
    `valid`, (B, H, W) bool, only these count, and the mean divides by their number. Gives a scalar, ≥ 0.
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


def focal_dice_loss(
    logits: Tensor,
    labels: Tensor,
    num_masks: float | Tensor,
    *,
    focal_weight: float,
    dice_weight: float,
    masked: bool,
    present: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted focal and dice loss of mask logits on the patch grid (SPEC section 7).

    Equal to upsampling the logits and applying `focal_loss` and dice, (1/N) Σ over classes present in their image of
    1 − (2 Σ pT + 1) / (Σ p + Σ T + 1), in value and gradient, up to rounding. The gradient is computed together with
    the value, piece by piece. Most classes are absent from an image: their masks are negatives everywhere and have no
    dice, so that their labels need not be read. Upsampling and its gradient are products with the two axes' weights.
    Probability on ignored pixels counts as wrong, unless `masked`.

    Arguments are those of `segmentation_loss`, with N at least 1; `masked` pixels labelled 255 are left out
    of both terms. Where `present` is looked up in the labels, a GPU must be waited for.

    Returns total (with a gradient), focal and dice (both without): float32 scalars, weighted.
    """
    if present is None:
        present = present_classes(labels, logits.shape[1]).cpu()
    total, focal, dice = _FocalDice.apply(logits, labels, present, num_masks, focal_weight, dice_weight, masked)
    return total, focal, dice


class _FocalDice(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        present: Tensor,
        num_masks: float | Tensor,
        focal_weight: float,
        dice_weight: float,
        masked: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        gradient = torch.empty_like(logits, dtype=torch.float32)
        focal = logits.new_zeros((), dtype=torch.float32)
        dice = focal.clone()
        height, width = labels.shape[-2:]
        piece = max(1, (_GPU_PIECE if logits.is_cuda else _CPU_PIECE) // (height * width))
        with without_autocast(logits.device):
            rows = _upsampling(logits.shape[2], height, logits.device)
            columns = _upsampling(logits.shape[3], width, logits.device)
            for number, label in enumerate(labels):
                image = logits[number].float()
                valid = (label != IGNORED).float() if masked else None
                pixels = valid.sum().clamp(min=1) if valid is not None else float(height * width)
                for classes, here in _pieces(present[number], piece, logits.device):
                    x = (rows @ image[classes]) @ columns.T
                    p = torch.sigmoid(x)
                    target = label == classes[:, None, None] if here else None
                    value, slope = _negative_focal(x, p) if target is None else _focal(x, p, target)
                    focal += (value if valid is None else value * valid).sum() / pixels
                    slope *= focal_weight / (num_masks * pixels)
                    if target is not None:
                        dice += _add_dice(slope, p, target, valid, dice_weight / num_masks)
                    if valid is not None:
                        slope *= valid
                    gradient[number, classes] = (rows.T @ slope) @ columns
        # Kept in float32, which PyTorch turns into the logits' format after `backward`: in half precision most of it
        # would be zero before a loss scale is multiplied in.
        ctx.save_for_backward(gradient)
        focal, dice = focal * (focal_weight / num_masks), dice * (dice_weight / num_masks)
        ctx.mark_non_differentiable(focal, dice)
        return focal + dice, focal, dice

    @staticmethod
    def backward(ctx: Any, total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * total, None, None, None, None, None, None


def _upsampling(source: int, target: int, device: torch.device) -> Tensor:
    """Weights (target, source) of a bilinear resize along one axis, align_corners false."""
    identity = torch.eye(source, device=device)[None]
    return F.interpolate(identity, size=target, mode="linear", align_corners=False)[0].T.contiguous()


def _pieces(present: Tensor, size: int, device: torch.device) -> Iterator[tuple[Tensor, bool]]:
    """Indices of at most `size` classes at once, and whether the image has them."""
    for here in (True, False):
        for classes in (present == here).nonzero()[:, 0].split(size):
            if len(classes):
                yield classes.to(device, non_blocking=True), here


def _negative_focal(x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Focal loss of logits x (k, H, W) that ought to be negative, and its slope: each (k, H, W)."""
    square = (p * p).mul_(1 - ALPHA)
    value = F.softplus(x).mul_(square)
    return value, square.mul_(p).addcmul_(1 - p, value, value=2)


def _focal(x: Tensor, p: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Focal loss of logits x (k, H, W) for masks (k, H, W) bool, and its slope: each (k, H, W)."""
    # A mask's pixel is the negative of the opposite logit, with the other weight.
    sign = torch.where(target, -1.0, 1.0)
    value, slope = _negative_focal(x * sign, torch.where(target, 1 - p, p))
    weight = torch.where(target, ALPHA / (1 - ALPHA), 1.0)
    return value.mul_(weight), slope.mul_(weight.mul_(sign))


def _add_dice(slope: Tensor, p: Tensor, target: Tensor, valid: Tensor | None, weight: float | Tensor) -> Tensor:
    """Sum of 1 - (2 Σ pT + 1) / (Σ p + Σ T + 1) over masks (k, H, W); adds `weight` times its slope to `slope`."""
    weighted = p if valid is None else p * valid
    overlap = (weighted * target).sum((1, 2))
    whole = weighted.sum((1, 2)) + target.sum((1, 2)) + 1
    by_area = ((2 * overlap + 1) / whole**2)[:, None, None]
    by_target = (2 / whole)[:, None, None]
    slope.add_((by_area - by_target * target).mul_(p).mul_(1 - p).mul_(weight))
    return (1 - (2 * overlap + 1) / whole).sum()
