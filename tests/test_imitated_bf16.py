"""Imitated products of bf16 are those of the hardware: exact, summed in fp32, rounded once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip import imitated_bf16, runtime
from cascade_clip.imitated_bf16 import ImitatedBf16

CPU = torch.device("cpu")
Product = Callable[[Tensor, Tensor, Tensor], Tensor]
PRODUCTS: dict[str, Product] = {
    "matrices": lambda tokens, weight, bias: tokens[0] @ weight.T,
    "matrices, row by row": lambda tokens, weight, bias: tokens[0] @ weight[: tokens.shape[-1]],
    "batches": lambda tokens, weight, bias: tokens @ tokens.transpose(1, 2),
    "linear": F.linear,
    "linear without bias": lambda tokens, weight, bias: F.linear(tokens, weight),
    "convolution": lambda tokens, weight, bias: F.conv2d(tokens[None], weight.view(16, 3, 4, 4), bias, stride=4),
}


def drawn() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens, weight, bias = (torch.randn(shape, generator=generator) for shape in ((3, 8, 48), (16, 48), (16,)))
    return tokens.bfloat16(), torch.cat([weight] * 3).bfloat16()[:48], bias.bfloat16()


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, inference: bool) -> None:
    tokens, weight, bias = drawn()
    if name.startswith(("linear", "convolution")):
        weight = weight[:16]
    with torch.inference_mode(inference), ImitatedBf16():
        imitated = PRODUCTS[name](tokens, weight, bias)
    assert imitated.dtype == torch.bfloat16
    assert torch.equal(imitated, PRODUCTS[name](tokens.float(), weight.float(), bias.float()).bfloat16())
    torch.testing.assert_close(imitated, PRODUCTS[name](tokens, weight, bias), rtol=0.016, atol=0.016)


def test_other_operations_and_types_are_left_alone() -> None:
    tokens, weight, _ = drawn()
    expected = tokens.float() @ weight.float().T, tokens + 1
    with ImitatedBf16():
        given = tokens.float() @ weight.float().T, tokens + 1
        elsewhere = tokens.to("meta") @ weight.T.to("meta")
    assert given[0].dtype == torch.float32
    assert all(torch.equal(*pair) for pair in zip(given, expected, strict=True))
    assert (elsewhere.device.type, elsewhere.dtype) == ("meta", torch.bfloat16)


def test_gradients_of_a_block_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    block, tokens = ResidualAttentionBlock(64, 4), torch.randn(2, 17, 64)

    def gradients() -> list[Tensor]:
        given = tokens.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            output = block(given)
        return list(torch.autograd.grad(output.float().square().mean(), [given, *block.parameters()]))

    plain = gradients()
    with ImitatedBf16():
        imitated = gradients()
    for ours, theirs in zip(imitated, plain, strict=True):
        assert (ours - theirs).norm() <= 0.02 * theirs.norm()


@pytest.mark.parametrize("instructions", [True, False])
def test_imitates_where_the_processor_has_no_instructions(instructions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "has_bf16_instructions", lambda: instructions)
    seen: list[int] = []
    monkeypatch.setattr(imitated_bf16, "_widened", lambda tensor: seen.append(1) or tensor.float())
    tokens, weight, _ = (x.float() for x in drawn())
    for dtype in (torch.float32, torch.bfloat16):
        seen.clear()
        with runtime.products_in(dtype, CPU):
            assert F.linear(tokens, weight).dtype == dtype
        assert bool(seen) == (dtype == torch.bfloat16 and not instructions)
        seen.clear()
        F.linear(tokens.bfloat16(), weight.bfloat16())
        assert not seen, "outside, nothing is imitated"


def test_processors_other_than_x86_are_taken_to_have_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch knows the answer for x86 alone."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    answers = {}
    for machine in ("x86_64", "AMD64", "arm64", "aarch64"):
        monkeypatch.setattr(imitated_bf16.platform, "machine", lambda given=machine: given)
        answers[machine] = imitated_bf16.has_bf16_instructions.__wrapped__()
    assert answers == {"x86_64": False, "AMD64": False, "arm64": True, "aarch64": True}
