"""Scores of classes and the labels they give (SPEC section 5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

STRIP_ELEMENTS = 2**25
"""Resized scores held at once (128 MiB in float32); larger results are made in strips of rows."""
EIGHT_BIT_CLASSES = 255
"""Most classes whose indices fit 8 bits beside the value for "no class"."""


class Labels(NamedTuple):
    """The winner at every pixel."""

    labels: Tensor
    """(H, W) class index: uint8 up to 255 classes, else int32; `no_class(K)` where the score is below the threshold."""
    scores: Tensor
    """(H, W) float32 score of the winning class."""


def no_class(classes: int) -> int:
    """The label of pixels that belong to none of `classes` classes: 255, or 65535 where indices need 16 bits."""
    return 255 if classes <= EIGHT_BIT_CLASSES else 65535


def class_scores(mask_logits: Tensor, size: tuple[int, int], seen: Tensor, bias: float) -> Tensor:
    """Turn the network's mask logits into scores at the size of the window.

    Args:
        mask_logits: (B, K, h, w) float, unbounded.
        size: Height and width (H, W) of the scores.
        seen: (K,) bool, classes that were trained with labels.
        bias: Subtracted from the scores of seen classes: 0.1 inductive, 0 after self-training.

    Returns:
        (B, K, H, W) float32 in [-bias, 1].
    """
    logits = F.interpolate(mask_logits.float(), size=size, mode="bilinear", align_corners=False)
    return logits.sigmoid_().sub_((seen.float() * bias)[:, None, None])


def labels_from_scores(
    scores: Tensor, size: tuple[int, int], threshold: float | None = None, *, strip_elements: int = STRIP_ELEMENTS
) -> Labels:
    """Resize averaged scores to the image's size and take the best class; equal scores go to the lowest index.

    Scores, not logits, are resized, as released. Where K·H·W exceeds `strip_elements` the result is made in strips of
    rows, so that memory does not grow with the image.

    Args:
        scores: (K, h, w) float32.
        size: Height and width (H, W) of the image.
        threshold: Pixels whose winning score is below it get `no_class(K)`; none: every pixel has a class.
        strip_elements: Most resized scores held at once.

    Returns:
        Labels and winning scores, both (H, W), on the device of `scores`.
    """
    classes, (height, width) = len(scores), size
    if classes * height * width <= strip_elements:
        resized = F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]
        return _winners(resized, threshold)
    labels = torch.empty(size, dtype=_label_dtype(classes), device=scores.device)
    best = torch.empty(size, device=scores.device)
    rows = max(1, strip_elements // (classes * width))
    for top in range(0, height, rows):
        strip = slice(top, min(top + rows, height))
        labels[strip], best[strip] = _winners(_resized_rows(scores, size, strip.start, strip.stop), threshold)
    return Labels(labels, best)


def _label_dtype(classes: int) -> torch.dtype:
    return torch.uint8 if classes <= EIGHT_BIT_CLASSES else torch.int32


def _winners(scores: Tensor, threshold: float | None) -> Labels:
    classes = len(scores)
    best, labels = scores.max(dim=0)
    labels = labels.to(_label_dtype(classes))
    if threshold is not None:
        labels[best < threshold] = no_class(classes)
    return Labels(labels, best)


def _resized_rows(scores: Tensor, size: tuple[int, int], top: int, bottom: int) -> Tensor:
    """Rows top..bottom of torch's bilinear resize (align_corners False) of (K, h, w) to `size`.

    Positions, weights and the order of products are torch's (columns first, then rows with a fused multiply-add).
    """
    source_height, height = scores.shape[1], size[0]
    rows = torch.arange(top, bottom, dtype=torch.float32, device=scores.device)
    position = ((rows + 0.5) * torch.tensor(source_height / height, dtype=torch.float32) - 0.5).clamp_(min=0)
    upper = position.long()
    lower = (upper + 1).clamp_(max=source_height - 1)
    first, last = int(upper[0]), int(lower[-1]) + 1
    columns = F.interpolate(
        scores[None, :, first:last], size=(last - first, size[1]), mode="bilinear", align_corners=False
    )[0]
    weight = (position - upper)[:, None]
    return torch.addcmul(columns[:, lower - first] * weight, columns[:, upper - first], 1 - weight)
