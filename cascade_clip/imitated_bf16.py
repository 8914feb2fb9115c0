"""bf16 on a processor that has no instructions for it: the products of bf16 numbers from those of fp32."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

aten = torch.ops.aten
PRODUCTS = frozenset(
    {
        aten.linear.default,
        aten.matmul.default,
        aten.mm.default,
        aten.addmm.default,
        aten.bmm.default,
        aten.conv2d.default,
        aten.convolution.default,
        aten.convolution_backward.default,
        aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
    }
)
"""Operations of which every floating-point output has the type of the inputs. Attention's forward is fast as it is."""


class ImitatedBf16(TorchDispatchMode):
    """Computes products of bf16 tensors as bf16 instructions do: exact products, sums in fp32, rounded once at the end.

    PyTorch's own imitation differs by rounding alone, and takes six times as long as fp32; for products with a matrix
    that lies row by row, as in the backward pass of every linear layer, a hundred times.
    """

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation, in fp32 where it is a product of bf16 tensors on the CPU."""
        named = kwargs or {}
        if func not in PRODUCTS or not _is_bf16_on_cpu(args[0]):
            return func(*args, **named)
        products = func(*tree_map_only(Tensor, _widened, tuple(args)), **tree_map_only(Tensor, _widened, dict(named)))
        return tree_map_only(Tensor, lambda product: product.to(torch.bfloat16), products)


@cache
def has_bf16_instructions() -> bool:
    """Whether this processor multiplies bf16 numbers itself; one that is not x86 is taken to."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return True
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _is_bf16_on_cpu(first: Tensor) -> bool:
    return first.dtype == torch.bfloat16 and first.device.type == "cpu"


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
