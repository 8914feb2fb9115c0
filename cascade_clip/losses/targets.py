"""Label maps as training sees them: seen classes by position, everything else ignored."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.labels import IGNORED


def seen_label_table(seen: Sequence[int]) -> Tensor:
    """Table that takes a class index to its position among the seen classes (SPEC section 6, inductive).

    `seen` are their indices in the order in which their text rows are fed. Gives (256,) int64; unseen classes and 255
    lead to 255.
    """
    table = torch.full((256,), IGNORED, dtype=torch.int64)
    table[torch.as_tensor(list(seen), dtype=torch.int64)] = torch.arange(len(seen))
    return table


def remap_labels(labels: Tensor, table: Tensor) -> Tensor:
    """Apply a table to a label map (…, H, W) of integers 0..255; returns int64 of the same shape."""
    return table.to(labels.device)[labels.long()]


def one_hot_masks(labels: Tensor, classes: int) -> Tensor:
    """Binary masks (B, K, H, W) float32 of labels (B, H, W) int64, 1 where the label is the class; 255 is none."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)[:, None, None]).float()


def count_masks(labels: Tensor) -> int:
    """Distinct classes of each image of labels (B, H, W), 255 aside, summed (SPEC section 7: N before the clamp)."""
    return int(present_classes(labels, IGNORED).sum())


def present_classes(labels: Tensor, classes: int) -> Tensor:
    """Which of K classes each image of labels (B, H, W) int64 has: (B, K) bool on the labels' device."""
    seen = torch.zeros(len(labels), max(classes, IGNORED + 1), dtype=torch.bool, device=labels.device)
    seen.scatter_(1, labels.flatten(1), value=True)
    seen[:, IGNORED] = False
    return seen[:, :classes]


def pseudo_labels(
    labels: Tensor, logits: Tensor, unseen: Sequence[int], *, where: Tensor | None = None, threshold: float = 0.0
) -> Tensor:
    """Name the pixels of unseen classes by a model's best guess among them (SPEC section 6, self-training).

    Args:
        labels: (B, H, W) int64 class indices and 255.
        logits: (B, K, h, w) mask logits of all classes, upsampled bilinearly (align_corners false) to the labels' size;
            no gradient flows through the guess.
        unseen: Indices of the unseen classes, at least one.
        where: (B, H, W) bool, pixels that are named; None: those whose label is an unseen class. As released, where
            they are then comes from the label map, and only which class they are is guessed.
        threshold: Lowest score (0..1) of a guess; pixels below it become 255. 0, as released, keeps every guess.

    Returns:
        (B, H, W) int64: pixels to be named renamed, all others as they were.
    """
    candidates = torch.as_tensor(list(unseen), device=labels.device)
    chosen = logits.detach()[:, candidates].float()
    full = F.interpolate(chosen, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    # The sigmoid is monotone, so that the best logit is the best score.
    place = full.argmax(dim=1)
    guess = candidates[place]
    if threshold > 0:
        score = full.gather(1, place[:, None])[:, 0].sigmoid()
        guess = torch.where(score < threshold, IGNORED, guess)
    return torch.where(torch.isin(labels, candidates) if where is None else where, guess, labels)
