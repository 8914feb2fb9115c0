"""`project` is the plain product: in value, in gradient, and in half precision up to rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cascade_clip.projection import project


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 48, generator=generator), torch.randn(48, 32, generator=generator)


def test_gives_the_product_and_its_gradients() -> None:
    tokens, projection = (x.requires_grad_() for x in drawn())
    ours, plain = project(tokens, projection), tokens @ projection
    assert ours.shape == (2, 5, 32)
    torch.testing.assert_close(ours, plain)
    weights = torch.linspace(-1, 1, ours.numel()).view_as(ours)
    for given, expected in zip(
        torch.autograd.grad((ours * weights).sum(), (tokens, projection)),
        torch.autograd.grad((plain * weights).sum(), (tokens, projection)),
        strict=True,
    ):
        torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_follows_autocast(dtype: torch.dtype) -> None:
    tokens, projection = drawn()
    with torch.autocast("cpu", dtype=dtype):
        ours = project(tokens, projection)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours.float(), tokens @ projection, rtol=0.02, atol=0.2)


class Layouts(TorchDispatchMode):
    """Notes the strides of the matrix that tokens are multiplied by."""

    def __init__(self) -> None:
        super().__init__()
        self.strides: list[tuple[int, ...]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.mm.default:
            self.strides.append(args[1].stride())
        return func(*args, **(kwargs or {}))


def test_multiplies_by_a_matrix_that_lies_as_that_of_a_linear_layer() -> None:
    """The layout in which products of bf16 are fast on every processor."""
    with Layouts() as layouts:
        project(*drawn())
    assert layouts.strides == [(1, 48)]
