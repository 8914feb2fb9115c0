"""SSIM against torchmetrics, and as part of the loss (SPEC section 16)."""

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from cascade_clip.losses.criterion import segmentation_loss, ssim_loss
from cascade_clip.losses.focal_dice import focal_loss
from cascade_clip.losses.targets import one_hot_masks


def _maps(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(*shape, generator=generator)
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    return logits, one_hot_masks(labels, shape[1])


def test_agrees_with_torchmetrics():
    """Its own padding mirrors, which zeros of more than the window's reach around the maps keep out."""
    logits, targets = _maps(2, 3, 20, 13)
    padded = (torch.nn.functional.pad(maps, (11, 11, 11, 11)) for maps in (logits, targets))
    _, full = structural_similarity_index_measure(
        *padded, sigma=1.5, kernel_size=11, data_range=1.0, return_full_image=True
    )
    assert ssim_loss(logits, targets).item() == pytest.approx(1 - full[..., 11:-11, 11:-11].mean().item(), rel=1e-5)


def test_half_precision_around_it_changes_nothing():
    logits, targets = _maps(2, 3, 20, 13)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = ssim_loss(logits, targets)
    assert mixed.item() == ssim_loss(logits, targets).item()


def test_masked_pixels_lie_beyond_the_border():
    logits, targets = _maps(2, 3, 12, 12)
    valid = torch.ones(2, 12, 12, dtype=torch.bool)
    assert ssim_loss(logits, targets, valid).item() == pytest.approx(ssim_loss(logits, targets).item(), rel=1e-6)
    valid[:, :5] = False
    rest = ssim_loss(logits[:, :, 5:], targets[:, :, 5:]).item()
    assert ssim_loss(logits, targets, valid).item() == pytest.approx(rest, rel=1e-6)
    assert ssim_loss(logits, targets, torch.zeros_like(valid)).item() == 0


def test_flat_logits_are_not_blown_up_by_rounding():
    """It makes a variance of 0 negative there; the quotient must not notice."""
    logits, targets = torch.full((1, 2, 24, 24), 66.3), torch.zeros(1, 2, 24, 24)
    targets[..., :12] = 1
    exact = ssim_loss(logits.double(), targets.double()).item()
    assert ssim_loss(logits, targets).item() == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("ignored", ["negative", "masked"])
def test_in_place_of_dice(ignored: str):
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (2, 8, 8))
    labels[:, :3] = 255
    terms = segmentation_loss(logits, labels, region="ssim", ignored=ignored, dice_weight=2.0, num_masks=5.0)
    full = torch.nn.functional.interpolate(logits, size=(8, 8), mode="bilinear")
    targets, valid = one_hot_masks(labels, 3), labels != 255 if ignored == "masked" else None
    assert terms.dice.item() == 0
    assert terms.ssim.item() == pytest.approx(2 * ssim_loss(full, targets, valid).item())
    assert terms.total.item() == pytest.approx((100 * focal_loss(full, targets, 5.0, valid) + terms.ssim).item())
    assert not any(term.requires_grad for term in (terms.focal, terms.ssim))
    assert segmentation_loss(logits, labels).ssim.item() == 0


@pytest.mark.parametrize("region", ["dice", "ssim"])
@pytest.mark.parametrize("ignored", ["negative", "masked"])
def test_parts_of_a_batch_sum_to_the_whole(region: str, ignored: str):
    """Gradient accumulation: N and the share of the images are given, also where the parts are of unequal size."""
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3, 4, 4), torch.randint(0, 3, (4, 16, 16))
    labels[:2, :7] = 255
    whole = segmentation_loss(logits, labels, region=region, ignored=ignored, num_masks=12.0)
    parts = [
        segmentation_loss(
            logits[part], labels[part], region=region, ignored=ignored, num_masks=12.0, share=len(logits[part]) / 4
        )
        for part in (slice(0, 3), slice(3, 4))
    ]
    assert sum(part.total.item() for part in parts) == pytest.approx(whole.total.item(), rel=1e-6)
