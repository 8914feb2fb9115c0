"""Losses by hand on a few pixels (SPEC section 7)."""

import math

import pytest
import torch

from cascade_clip.losses.criterion import segmentation_loss
from cascade_clip.losses.targets import pseudo_labels

LOG2 = math.log(2)


@pytest.mark.parametrize("num_masks", [None, 0.25, torch.zeros(())])
def test_nothing_labelled_divides_by_one(num_masks: float | torch.Tensor | None):
    """Whether N is counted here, or over several processes."""
    logits, labels = torch.zeros(1, 2, 4, 4), torch.full((1, 4, 4), 255)
    terms = segmentation_loss(logits, labels, num_masks=num_masks)
    assert terms.dice.item() == 0
    assert terms.focal.item() == pytest.approx(100 * 2 * 0.75 * LOG2 / 4)
    assert terms.total.item() == pytest.approx(terms.focal.item())
    for region in ("dice", "ssim"):
        assert segmentation_loss(logits, labels, region=region, ignored="masked").total.item() == 0


def test_pseudo_labels_go_where_they_are_wanted_from_logits_of_any_size():
    labels = torch.tensor([[[0, 255, 255, 255]] * 2])
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 2, 0, 1] = 1.0
    where = torch.tensor([[[False, True, True, True], [False, True, True, False]]])
    # Between the two patches class 2 is ahead already: 0.25 of its logit against 0 at the first pixel of the middle.
    at = torch.tensor(0.25).sigmoid().item()
    for threshold, first in ((0.0, 2), (at, 2), (at + 1e-3, 255)):
        found = pseudo_labels(labels, logits, [1, 2], where=where, threshold=threshold)
        assert found.tolist() == [[[0, first, 2, 2], [0, first, 2, 255]]]
