"""`torch.compile`: always opt-in, its failures reported in a sentence."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from cascade_clip.errors import UserError, first_line
from cascade_clip.runtime import products_in

Network = TypeVar("Network", bound=nn.Module)


def compiled(network: Network) -> Network:
    """The same network, compiled at its first call; weights and names of tensors are shared with the one given."""
    return cast(Network, torch.compile(network))


@contextmanager
def compiling(way_out: str) -> Iterator[None]:
    """Context of calls that compile; their failure is a `UserError` that ends with `way_out`, how to do without."""
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = first_line(getattr(error, "inner_exception", error)).rstrip(".:")
        raise UserError(f"torch.compile cannot compile this network here ({reason}): {way_out}.") from error


def warm_up(network: nn.Module, text: Tensor, *, side: int, batches: int, dtype: torch.dtype) -> float:
    """Compile a network in place for inference with empty windows, and return the seconds it took.

    It stays in evaluation mode and keeps its class, so that it can still be saved and explained. `text` (K, C) are as
    many embeddings as there will be, on its device; `side` is that of square windows in pixels, a multiple of the patch
    size (others compile at their first use); `batches` are most windows at once: one and several are two programs.
    """
    started = time.perf_counter()
    network.compile()
    with compiling("leave --compile out"), torch.inference_mode(), products_in(dtype, text.device):
        for batch in sorted({1, min(batches, 2)}):
            network(torch.zeros(batch, 3, side, side, device=text.device), text).cpu()
    return time.perf_counter() - started
