"""The loss in pieces equals the formulas written out over whole masks (SPEC section 7)."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.losses import focal_dice
from cascade_clip.losses.focal_dice import focal_dice_loss, focal_loss
from cascade_clip.losses.targets import count_masks, one_hot_masks, present_classes


def _dice(probability: Tensor, targets: Tensor, num_masks: float) -> Tensor:
    """1 - (2 Σ pT + 1) / (Σ p + Σ T + 1), summed over the classes present."""
    area = targets.sum((2, 3))
    ratio = (2 * (probability * targets).sum((2, 3)) + 1) / (probability.sum((2, 3)) + area + 1)
    return ((1 - ratio) * (area > 0)).sum() / num_masks


def _plain(logits: Tensor, labels: Tensor, num_masks: float, *, masked: bool) -> tuple[Tensor, Tensor]:
    full = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    targets = one_hot_masks(labels, full.shape[1])
    valid = labels != 255 if masked else None
    probability = full.sigmoid() if valid is None else full.sigmoid() * valid[:, None]
    return 100 * focal_loss(full, targets, num_masks, valid), 2 * _dice(probability, targets, num_masks)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [(3, 7, 5, 6, 37, 41), (2, 34, 4, 4, 32, 32), (1, 1, 2, 3, 5, 4)])
@pytest.mark.parametrize("piece", [1, 3000])
def test_equals_the_formulas(masked: bool, size: tuple[int, ...], piece: int, monkeypatch):
    """Values and gradients, whatever the pieces; logits up to ±30, where the exponentials saturate."""
    monkeypatch.setattr(focal_dice, "_CPU_PIECE", piece)
    batch, classes, h, w, height, width = size
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(batch, classes, h, w, generator=generator, dtype=torch.float64) * 10).requires_grad_()
    labels = torch.randint(0, classes + 1, (batch, height, width), generator=generator)
    labels[labels == classes] = 255
    focal, dice = _plain(logits, labels, 4.0, masked=masked)
    (expected,) = torch.autograd.grad(focal + dice, logits)
    single = logits.detach().float().requires_grad_()
    total, our_focal, our_dice = focal_dice_loss(
        single, labels, 4.0, focal_weight=100.0, dice_weight=2.0, masked=masked
    )
    (ours,) = torch.autograd.grad(3 * total, single)
    assert our_focal.item() == pytest.approx(focal.item(), rel=2e-6)
    assert our_dice.item() == pytest.approx(dice.item(), rel=2e-6)
    assert total.item() == pytest.approx((focal + dice).item(), rel=2e-6)
    torch.testing.assert_close(ours, 3 * expected.float(), rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def test_gradient_keeps_the_logits_number_format():
    logits = torch.randn(1, 3, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.tensor([[[0, 1], [2, 255]]])
    total, *terms = focal_dice_loss(logits, labels, 2.0, focal_weight=1.0, dice_weight=1.0, masked=False)
    assert total.dtype == torch.float32
    assert not any(term.requires_grad for term in terms)
    total.backward()
    assert logits.grad is not None
    assert logits.grad.dtype == torch.bfloat16
    assert logits.grad.float().abs().sum() > 0


def test_small_gradients_survive_half_precision():
    """Slopes of 1e-8 and less, which float16 cannot hold, arrive where the loss is scaled as in fp16 training."""
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(1, 3, 8, 8, generator=generator) - 6).half()
    labels = torch.randint(0, 2, (1, 128, 128), generator=generator)
    weights, gradients = {"focal_weight": 1.0, "dice_weight": 0.0, "masked": False}, []
    for given in (logits, logits.float()):
        leaf = given.clone().requires_grad_()
        (65536 * focal_dice_loss(leaf, labels, 100.0, **weights)[0]).backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad.float())
    half, single = gradients
    assert (single[:, 2].abs() / 65536 < 6e-8).any()
    torch.testing.assert_close(half, single, rtol=1e-3, atol=6e-8)


def test_autocast_does_not_round_the_products():
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, (1, 16, 16), generator=torch.Generator().manual_seed(1))
    weights = {"focal_weight": 100.0, "dice_weight": 1.0, "masked": False}
    expected = focal_dice_loss(logits, labels, 3.0, **weights)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(focal_dice_loss(logits, labels, 3.0, **weights)[0], expected)


def test_present_classes():
    labels = torch.tensor([[[0, 255], [2, 2]], [[255, 255], [255, 255]]])
    assert present_classes(labels, 3).tolist() == [[True, False, True], [False] * 3]
    assert count_masks(labels) == 2
    many = torch.tensor([[[299, 255], [0, 0]]])
    assert present_classes(many, 300).nonzero()[:, 1].tolist() == [0, 299]
