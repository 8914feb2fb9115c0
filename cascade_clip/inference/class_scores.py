"""Scores of classes, their bilinear resizing, and the labels they give (SPEC section 5).

Every product and sum of the resizing is rounded on its own. The last bit of PyTorch's kernel depends on how many maps
are resized at once and on threads. Here a value depends on its four neighbours alone, so that any part of a map, and
any choice of maps, equals the same part of the whole.
"""

from typing import NamedTuple

import torch
from torch import Tensor

MAPS_AT_ONCE = 8
"""Maps that are upsampled at once: few enough for the processor's cache."""
EIGHT_BIT_CLASSES = 255
"""Most classes whose indices fit 8 bits beside the value for "no class"."""


class Taps(NamedTuple):
    """Along one axis of a bilinear resize: the two neighbours that each position reads, and their weights."""

    start: int
    """First source index that is read."""
    stop: int
    """End of the source indices that are read."""
    lower: Tensor
    """(n,) int64 first neighbour, counted from `start`."""
    upper: Tensor
    """(n,) int64 second neighbour, counted from `start`."""
    lower_weight: Tensor
    """(n,) float32, 1 - `upper_weight`."""
    upper_weight: Tensor
    """(n,) float32 in [0, 1]."""


def taps(source: int, target: int, positions: Tensor, device: torch.device) -> Taps:
    """Neighbours and weights as PyTorch's `interpolate` has them (bilinear, align_corners False).

    An axis of length `source` is resized to `target`, of whose positions these are (n,) int64 on the CPU, at least one,
    in any order.
    """
    scale = torch.tensor(source / target, dtype=torch.float32)
    place = ((positions.float() + 0.5) * scale - 0.5).clamp_(min=0)
    lower = place.long()
    upper = (lower + 1).clamp_(max=source - 1)
    weight = place - lower
    start, stop = int(lower.min()), int(upper.max()) + 1
    return Taps(start, stop, *(part.to(device) for part in (lower - start, upper - start, 1 - weight, weight)))


def resample(maps: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Maps (S, h, w) float32 at the positions of both axes, columns first: (S, rows, columns), a new tensor."""
    part = maps[:, rows.start : rows.stop, columns.start : columns.stop]
    across = part.index_select(2, columns.lower).mul_(columns.lower_weight)
    across += part.index_select(2, columns.upper).mul_(columns.upper_weight)
    down = across.index_select(1, rows.lower).mul_(rows.lower_weight[:, None])
    return down.add_(across.index_select(1, rows.upper).mul_(rows.upper_weight[:, None]))


def _taps_of_both(maps: Tensor, size: tuple[int, int]) -> list[Taps]:
    """Taps of rows and columns that resize maps (..., h, w) to `size` (H, W)."""
    pairs = zip(maps.shape[-2:], size, strict=True)
    return [taps(source, target, torch.arange(target), maps.device) for source, target in pairs]


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (S, h, w) float32 bilinearly to `size` (H, W)."""
    return resample(maps, *_taps_of_both(maps, size))


class Winners(NamedTuple):
    """The winning class at every pixel."""

    labels: Tensor
    """(H, W) class index: uint8 up to 255 classes, else int32; `no_class(K)` where the score is below the threshold."""
    scores: Tensor
    """(H, W) float32 score of the winning class."""


def no_class(classes: int) -> int:
    """The label of pixels that belong to none of `classes` classes: 255, or 65535 where indices need 16 bits."""
    return 255 if classes <= EIGHT_BIT_CLASSES else 65535


def class_scores(mask_logits: Tensor, size: tuple[int, int], seen: Tensor, bias: float) -> Tensor:
    """Scores (B, K, H, W) float32 in [-bias, 1] of mask logits (B, K, h, w), at the size (H, W) of the window.

    `bias` is subtracted from the scores of classes that are `seen`, (K,) bool: 0.1 inductive, 0 after self-training.
    """
    rows, columns = _taps_of_both(mask_logits, size)
    scores = torch.empty(*mask_logits.shape[:2], *size, device=mask_logits.device)
    for window, logits in zip(scores, mask_logits.float(), strict=True):
        for first in range(0, len(logits), MAPS_AT_ONCE):
            some = slice(first, first + MAPS_AT_ONCE)
            window[some] = scores_of_logits(resample(logits[some], rows, columns), class_bias(seen[some], bias))
    return scores


def class_bias(seen: Tensor, bias: float) -> Tensor:
    """Bias of each class, (S, 1, 1) float32: `bias` where `seen` (S,) bool is true, else 0."""
    return (seen.float() * bias)[:, None, None]


def scores_of_logits(logits: Tensor, bias: Tensor) -> Tensor:
    """Sigmoid of logits (S, H, W) minus a bias (S, 1, 1), in place.

    The last bit of PyTorch's own sigmoid depends on where in memory a value is.
    """
    return logits.neg_().exp_().add_(1).reciprocal_().sub_(bias)


def labels_from_scores(scores: Tensor, size: tuple[int, int], threshold: float | None = None) -> Winners:
    """Resize scores (K, h, w) to the image's size (H, W) and take the best class; of equal scores the lowest index.

    Scores, not logits, are resized, as released. Pixels whose winning score is below `threshold` get `no_class(K)`;
    None: every pixel has a class. `TileLabels` gives the same without resizing the scores of classes that cannot win.
    """
    best, labels = resize_maps(scores, size).max(dim=0)
    labels = labels.to(label_dtype(len(scores)))
    if threshold is not None:
        labels[best < threshold] = no_class(len(scores))
    return Winners(labels, best)


def label_dtype(classes: int) -> torch.dtype:
    """Number format of a label map of so many classes."""
    return torch.uint8 if classes <= EIGHT_BIT_CLASSES else torch.int32
