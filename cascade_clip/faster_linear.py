"""Linear layers in float32 on the CPU by oneDNN, on processors where PyTorch's own library reaches half the rate.

PyTorch computes float32 products on x86 with MKL, which uses the widest instructions of Intel's processors only.
oneDNN, which is part of PyTorch too, uses them on all, but no public switch sends plain float32 products there.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from cascade_clip.errors import UserError, closest

VARIABLE = "CASCADE_CLIP_LINEAR"
"""Environment variable: `auto` (the default), `onednn` or `torch`."""
LEAST_GAIN = 1.3
"""oneDNN must be so many times as fast, well beyond what other work on the machine does to a measurement."""
LEAST_PRODUCTS = 2**24
"""Smaller layers take less time than the detour."""
ROUNDS = 8
LIBRARIES = ("onednn", "torch")
_chosen: str | None = None


def library() -> str:
    """What computes linear layers in this process, one of `LIBRARIES`.

    It is what `choose` said, else what the environment variable `CASCADE_CLIP_LINEAR` says, else what a measurement of
    some 50 ms finds; it is found once and stays.

    UserError for another value of the environment variable than `auto` and `LIBRARIES`.
    """
    if _chosen is None:
        wanted = _wanted()
        choose(wanted if wanted != "auto" else "onednn" if has_onednn() and _gain() >= LEAST_GAIN else "torch")
    return str(_chosen)


def choose(name: str) -> None:
    """Let this process compute linear layers by one of `LIBRARIES`, as an earlier run; without oneDNN by `torch`."""
    global _chosen  # noqa: PLW0603  (one choice a process)
    _chosen = name if has_onednn() else "torch"


def use_faster_linears(module: nn.Module) -> None:
    """Let every linear layer in a module compute by `linear`; weights and their names stay. Errors as of `library`."""
    _wanted()
    for child in module.modules():
        if type(child) in {nn.Linear, NonDynamicallyQuantizableLinear}:
            child.__class__ = _Linear


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, by oneDNN where that is faster: equal but for rounding, gradients too.

    Other devices and dtypes, autocast, compiling, exporting and counting of operations are PyTorch's.

    Tokens (..., I), weight (O, I) and bias (O,) give (..., O).
    """
    if not _is_eligible(tokens, weight) or library() != "onednn":
        return F.linear(tokens, weight, bias)
    needs_gradient = any(x is not None and x.requires_grad for x in (tokens, weight, bias))
    if not (torch.is_grad_enabled() and needs_gradient):
        return onednn_linear(tokens, weight, bias)
    result: Tensor = _Product.apply(tokens, weight, bias)
    return result


class _Linear(nn.Linear):
    """A linear layer by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class _Product(torch.autograd.Function):
    """`onednn_linear` with gradients by oneDNN too; of the inputs only what they need is kept."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        needs_tokens, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(tokens if needs_weight else None, weight if needs_tokens else None)
        return onednn_linear(tokens, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        tokens, weight = ctx.saved_tensors
        of_tokens = of_weight = of_bias = None
        if weight is not None:
            of_tokens = onednn_linear(gradient, weight.t().contiguous())
        rows = gradient.flatten(0, -2)
        if tokens is not None:
            of_weight = onednn_linear(rows.t().contiguous(), tokens.flatten(0, -2).t().contiguous())
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(dim=0)
        return of_tokens, of_weight, of_bias


def onednn_linear(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear` by oneDNN whatever the sizes, without a gradient; float32 on the CPU, where `has_onednn`."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(tokens, weight, bias, "none", [], "")
    return result


def _wanted() -> str:
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in (known := ("auto", *LIBRARIES)):
        raise UserError(f'The environment variable {VARIABLE} is "{wanted}".{closest(wanted, known)}')
    return wanted


def _is_eligible(tokens: Tensor, weight: Tensor) -> bool:
    # First, as a question about sizes would fix those of a traced program.
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    return (
        tokens.device.type == "cpu"
        and tokens.dtype == weight.dtype == torch.float32
        and tokens.dim() > 1
        and tokens.numel() * weight.shape[0] >= LEAST_PRODUCTS
        and not torch.is_autocast_enabled("cpu")
    )


def has_onednn() -> bool:
    """Whether this PyTorch has oneDNN's linear layers."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _gain() -> float:
    """How many times as fast oneDNN computes a layer of CLIP's kind, both at their best of a few turns.

    The time is this thread's own, on one thread: other work on the machine does not count.
    """
    tokens, weight, bias = torch.ones(256, 768), torch.ones(768, 768), torch.ones(768)
    turns: dict[Callable[..., Tensor], list[float]] = {F.linear: [], onednn_linear: []}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(ROUNDS):
                for call, seconds in turns.items():
                    started = time.thread_time()
                    call(tokens, weight, bias)
                    seconds.append(time.thread_time() - started)
    finally:
        torch.set_num_threads(threads)
    return min(turns[F.linear]) / min(turns[onednn_linear])
