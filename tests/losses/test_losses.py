"""Losses by hand on a few pixels (SPEC section 7)."""

from __future__ import annotations

import math

import pytest
import torch

from cascade_clip.losses.criterion import segmentation_loss
from cascade_clip.losses.focal_dice import focal_dice_loss, focal_loss
from cascade_clip.losses.targets import one_hot_masks, pseudo_labels, remap_labels, seen_label_table

LOG2 = math.log(2)


def _dice(logits: torch.Tensor, labels: torch.Tensor, *, masked: bool = False) -> float:
    _, _, dice = focal_dice_loss(logits, labels, 1.0, focal_weight=0.0, dice_weight=1.0, masked=masked)
    return dice.item()


def test_focal_of_undecided_pixels() -> None:
    """At logit 0: p_t = 1/2, BCE = log 2; positives weigh 1/4, negatives 3/4, both times (1/2)²."""
    logits, targets = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
    expected = (0.25 * LOG2 / 4 + 0.75 * LOG2 / 4) / 2
    assert focal_loss(logits, targets, 1).item() == pytest.approx(expected)
    assert focal_loss(logits, targets, 4).item() == pytest.approx(expected / 4)


def test_ignored_pixels_are_negatives_unless_masked() -> None:
    logits, labels = torch.zeros(1, 1, 1, 2), torch.tensor([[[0, 255]]])
    targets = one_hot_masks(labels, 1)
    assert focal_loss(logits, targets, 1).item() == pytest.approx((0.25 + 0.75) * LOG2 / 8)
    assert focal_loss(logits, targets, 1, labels != 255).item() == pytest.approx(0.25 * LOG2 / 4)
    # dice: Σp = 1 over both pixels, or 1/2 over the labelled one
    assert _dice(logits, labels) == pytest.approx(1 - (2 * 0.5 + 1) / (1 + 1 + 1))
    assert _dice(logits, labels, masked=True) == pytest.approx(1 - (2 * 0.5 + 1) / (0.5 + 1 + 1))


def test_dice_counts_present_classes_only() -> None:
    logits = torch.zeros(1, 3, 2, 2)
    labels = torch.tensor([[[0, 0], [0, 255]]])
    one = 1 - (2 * 1.5 + 1) / (2 + 3 + 1)
    assert _dice(logits, labels) == pytest.approx(one)
    assert _dice(logits, torch.full_like(labels, 255)) == 0


def test_nothing_labelled_divides_by_one() -> None:
    logits = torch.zeros(1, 2, 4, 4)
    terms = segmentation_loss(logits, torch.full((1, 4, 4), 255))
    assert terms.dice.item() == 0
    assert terms.focal.item() == pytest.approx(100 * 2 * 0.75 * LOG2 / 4)
    assert terms.total.item() == pytest.approx(terms.focal.item())


def test_seen_labels_are_positions() -> None:
    table = seen_label_table([0, 1, 3])
    assert remap_labels(torch.tensor([[0, 1, 2, 3, 255]]), table).tolist() == [[0, 1, 255, 2, 255]]


def test_pseudo_labels_rename_unseen_pixels_only() -> None:
    labels = torch.tensor([[[0, 2, 1, 255]]])
    logits = torch.zeros(1, 3, 1, 4)
    logits[0, 0] = 9.0  # the best class is seen, so it is no candidate
    logits[0, 1, 0, 1] = 1.0
    logits[0, 2, 0, 2] = 1.0
    assert pseudo_labels(labels, logits, [1, 2]).tolist() == [[[0, 1, 2, 255]]]


def test_pseudo_labels_of_low_scores_are_ignored() -> None:
    labels = torch.tensor([[[1, 1, 0, 255]]])
    logits = torch.tensor([[9.0, 9.0, 9.0, 9.0], [0.4, 0.5, 0.0, 0.0], [-1.0, -1.0, -1.0, -1.0]])[None, :, None]
    threshold = torch.sigmoid(torch.tensor(0.45)).item()
    assert pseudo_labels(labels, logits, [1, 2], threshold=threshold).tolist() == [[[255, 1, 0, 255]]]


def test_pseudo_labels_go_where_they_are_wanted_from_logits_of_any_size() -> None:
    labels = torch.tensor([[[0, 255, 255, 255]] * 2])
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 2, 0, 1] = 1.0
    where = torch.tensor([[[False, True, True, True], [False, True, True, False]]])
    # Between the two patches class 2 is ahead already: 0.25 of its logit against 0 at the first pixel of the middle.
    assert pseudo_labels(labels, logits, [1, 2], where=where).tolist() == [[[0, 2, 2, 2], [0, 2, 2, 255]]]
