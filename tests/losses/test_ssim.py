"""SSIM by brute force, against torchmetrics, and as part of the loss (SPEC section 16)."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from cascade_clip.losses.criterion import segmentation_loss
from cascade_clip.losses.focal import focal_loss
from cascade_clip.losses.ssim import ssim_loss
from cascade_clip.losses.targets import one_hot_masks


def _maps(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(*shape, generator=generator)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    return logits, one_hot_masks(labels, shape[1])


def _brute_force(x: torch.Tensor, y: torch.Tensor) -> float:
    """Mean SSIM of two maps (H, W), pixel by pixel over an 11 x 11 window that sees zeros beyond the border."""
    height, width = x.shape
    axis = [math.exp(-(offset**2) / (2 * 1.5**2)) for offset in range(-5, 6)]
    whole = sum(axis) ** 2
    total = 0.0
    for row in range(height):
        for column in range(width):
            sums = dict.fromkeys(("x", "y", "xx", "yy", "xy"), 0.0)
            for dy in range(-5, 6):
                for dx in range(-5, 6):
                    if 0 <= row + dy < height and 0 <= column + dx < width:
                        a, b = float(x[row + dy, column + dx]), float(y[row + dy, column + dx])
                        weight = axis[dy + 5] * axis[dx + 5] / whole
                        for name, value in (("x", a), ("y", b), ("xx", a * a), ("yy", b * b), ("xy", a * b)):
                            sums[name] += weight * value
            mx, my = sums["x"], sums["y"]
            top = (2 * mx * my + 1e-4) * (2 * (sums["xy"] - mx * my) + 9e-4)
            bottom = (mx**2 + my**2 + 1e-4) * (sums["xx"] - mx**2 + sums["yy"] - my**2 + 9e-4)
            total += top / bottom
    return total / (height * width)


def test_by_brute_force() -> None:
    logits, targets = _maps(1, 2, 7, 13)
    expected = 1 - sum(_brute_force(logits[0, k], targets[0, k]) for k in range(2)) / 2
    assert ssim_loss(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_agrees_with_torchmetrics_where_borders_do_not_matter() -> None:
    """Its padding mirrors, ours is zero: maps that are zero near the border do not tell."""
    logits, targets = _maps(2, 3, 40, 36)
    inside = torch.nn.functional.pad(torch.ones(28, 24), (6, 6, 6, 6))
    logits, targets = logits * inside, targets * inside
    _, full = structural_similarity_index_measure(
        logits, targets, sigma=1.5, kernel_size=11, data_range=1.0, return_full_image=True
    )
    assert ssim_loss(logits, targets).item() == pytest.approx(1 - full.mean().item(), rel=1e-5)


def test_equal_maps_cost_nothing_and_inverted_ones_more_than_empty_ones() -> None:
    _, targets = _maps(1, 2, 16, 16)
    assert ssim_loss(targets, targets).item() == pytest.approx(0, abs=1e-6)
    assert ssim_loss(1 - targets, targets).item() > 1
    assert 0.5 < ssim_loss(torch.zeros_like(targets), targets).item() < 1


def test_masked_pixels_do_not_count() -> None:
    logits, targets = _maps(2, 3, 12, 12)
    valid = torch.ones(2, 12, 12, dtype=torch.bool)
    assert ssim_loss(logits, targets, valid).item() == pytest.approx(ssim_loss(logits, targets).item(), rel=1e-6)
    valid[0, :5] = False
    changed = torch.where(valid[:, None], logits, torch.full_like(logits, 50.0))
    assert torch.equal(ssim_loss(changed, targets, valid), ssim_loss(logits, targets, valid))
    assert not torch.equal(ssim_loss(changed, targets), ssim_loss(logits, targets))
    valid[:] = False
    assert ssim_loss(logits, targets, valid).item() == 0


def test_large_flat_logits_stay_finite() -> None:
    """Rounding makes a variance of 0 negative there; the quotient must not notice."""
    logits = torch.full((1, 2, 24, 24), 3000.0) + torch.rand(1, 2, 24, 24)
    logits.requires_grad_()
    loss = ssim_loss(logits, torch.zeros(1, 2, 24, 24))
    loss.backward()
    assert 0 <= loss.item() <= 2
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_in_place_of_dice() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 8, 8))
    terms = segmentation_loss(logits, labels, region="ssim", dice_weight=2.0, num_masks=5.0)
    full = torch.nn.functional.interpolate(logits, size=(8, 8), mode="bilinear")
    targets = one_hot_masks(labels, 3)
    assert terms.dice.item() == 0
    assert terms.ssim.item() == pytest.approx(2 * ssim_loss(full, targets).item())
    assert terms.total.item() == pytest.approx((100 * focal_loss(full, targets, 5.0) + terms.ssim).item())
    assert segmentation_loss(logits, labels).ssim.item() == 0


@pytest.mark.parametrize("ignored", ["negative", "masked"])
def test_parts_of_a_batch_sum_to_the_whole(ignored: str) -> None:
    """Gradient accumulation: N and the share of the images are given, also where the parts are of unequal size."""
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3, 4, 4), torch.randint(0, 3, (4, 16, 16))
    labels[:2, :7] = 255
    whole = segmentation_loss(logits, labels, region="ssim", ignored=ignored, num_masks=12.0)
    parts = [
        segmentation_loss(
            logits[part], labels[part], region="ssim", ignored=ignored, num_masks=12.0, share=len(logits[part]) / 4
        )
        for part in (slice(0, 3), slice(3, 4))
    ]
    assert sum(part.total.item() for part in parts) == pytest.approx(whole.total.item(), rel=1e-6)
