"""What is counted rather than timed: operations and parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cascade_clip.model.network import CascadeNetwork


def count_flops(call: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions; a product and a sum are 2.

    Fused attention is replaced meanwhile by its parts, since PyTorch's counter does not know all fused kernels.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())


def count_parameters(network: CascadeNetwork, text: Tensor) -> dict[str, int]:
    """Count the parameters of a network; its gradients are dropped.

    Args:
        network: The network.
        text: (K, C) text embeddings on its device.

    Returns:
        `total`, `trainable`, and `reached`: those with a gradient that is not zero everywhere.
    """
    side = 2 * network.patch_size
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
