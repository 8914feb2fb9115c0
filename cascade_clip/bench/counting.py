"""What can be counted instead of timed: operations and parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cascade_clip.model.network import CascadeNetwork

_GRID = 2
"""Patches a side of the image that a gradient is sent through."""


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions, by PyTorch's own counter (a product and a sum: 2).

    Fused attention kernels are taken apart meanwhile, as the counter does not know all of them.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())


@contextmanager
def nothing_trains(network: nn.Module) -> Iterator[None]:
    """Take the gradient away from all parameters meanwhile: PyTorch's counter cannot look at them in inference mode."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def count_parameters(network: CascadeNetwork, text: Tensor) -> dict[str, int]:
    """Parameters of a network.

    Args:
        network: The network; its gradients are dropped.
        text: (K, C) text embeddings.

    Returns:
        `total`, `trainable`, `reached` (by a gradient that is not zero everywhere).
    """
    side = _GRID * network.patch_size
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(text.device)
    with torch.enable_grad():
        network(image, text).square().sum().backward()
    parameters = list(network.parameters())
    reached = [p for p in parameters if p.grad is not None and bool(p.grad.any())]
    network.zero_grad(set_to_none=True)
    return {
        "total": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "reached": sum(p.numel() for p in reached),
    }


def matrix_product(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], Tensor], int]:
    """A square matrix product, whose rate is what a chip can do at best.

    Returns:
        The call, and its floating-point operations.
    """
    side = 1024 if device.type == "cpu" else 8192
    left = torch.randn(side, side, device=device).to(dtype)
    right = torch.randn(side, side, device=device).to(dtype)
    return lambda: left @ right, 2 * side**3
