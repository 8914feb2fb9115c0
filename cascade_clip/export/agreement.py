"""Compare the mask logits of an exported file with PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.errors import UserError, counted
from cascade_clip.inference.sliding_window import MaskNetwork

TOLERANCE = 1e-4
"""Largest allowed difference of a mask logit, as a share of the largest one of its case."""
SEED = 0


@dataclass(frozen=True)
class Case:
    """The sizes of one input: B images of height x width pixels, and K text embeddings."""

    images: int
    classes: int
    height: int
    width: int


@dataclass(frozen=True)
class CaseResult:
    """The comparison of one input.

    Attributes:
        case: The input.
        difference: Largest |exported - PyTorch| over all mask logits, as a share of `largest`.
        largest: Largest |mask logit| of PyTorch.
        equal_labels: Share of patches whose best class is the same, in [0, 1].
    """

    case: Case
    difference: float
    largest: float
    equal_labels: float


def agreement_cases(side: int, patch_size: int, *, any_size: bool) -> tuple[Case, ...]:
    """Inputs with various numbers of images and classes and, where the file takes any size, heights and widths."""
    other = (side + patch_size, 2 * patch_size) if any_size else (side, side)
    return Case(1, 1, side, side), Case(3, 7, side, side), Case(2, 171, *other), Case(1, 2, *reversed(other))


def compare_with_torch(
    network: MaskNetwork, exported: Callable[[Tensor, Tensor], Tensor], joint: int, cases: Sequence[Case]
) -> list[CaseResult]:
    """Compare both on the same random images and unit text embeddings.

    Args:
        network: On the CPU.
        exported: Image (B, 3, H, W) and text (K, C) to mask logits (B, K, h, w).
        joint: C, dimension of the text embeddings.
        cases: Sizes of the inputs.

    Raises:
        UserError: A mask logit differs by more than `TOLERANCE`, or is NaN.
    """
    generator = torch.Generator().manual_seed(SEED)
    results = []
    for case in cases:
        image = torch.randn(case.images, 3, case.height, case.width, generator=generator)
        text = F.normalize(torch.randn(case.classes, joint, generator=generator), dim=-1)
        with torch.no_grad():
            expected, given = network(image, text), exported(image, text)
        largest = expected.abs().max().item()
        difference = (given - expected).abs().max().item() / max(largest, torch.finfo(torch.float32).tiny)
        equal = (given.argmax(dim=1) == expected.argmax(dim=1)).float().mean().item()
        # Not `>`: a NaN must fail too.
        if not difference <= TOLERANCE:
            raise UserError(
                f"The exported model does not give what PyTorch gives: with"
                f" {counted(case.images, 'image')} of {case.height} x {case.width} pixels and"
                f" {counted(case.classes, 'class')} mask logits differ by {difference:.1e} of the"
                f" largest ({TOLERANCE:.0e} is allowed), so nothing was written. Try the other --format or another"
                " version of torch and onnxruntime."
            )
        results.append(CaseResult(case, difference, largest, equal))
    return results
