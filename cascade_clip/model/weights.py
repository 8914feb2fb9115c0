"""Weights that were read from a file: whether they can be any, and networks that wait for them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cascade_clip.errors import UserError, listed

_NO_WEIGHTS = ("attn_mask", "position_ids")
"""Ends of names of constants that some of open_clip's towers store beside their weights."""
_DRAWS: set[Callable[..., Any]] = {Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_}


@contextmanager
def without_weights() -> Iterator[None]:
    """Context in which networks are built whose weights come from a file: they have shapes but no memory ("meta").

    PyTorch's random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]), init_empty_weights(), _NoDrawing():
        yield


class _NoDrawing(TorchFunctionMode):
    """Draws no numbers for tensors without memory: PyTorch would import its compiler for it, which takes a second."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if func in _DRAWS and (tensor := args[0] if args else options["tensor"]).is_meta:
            return tensor
        return func(*args, **options)


def check_weights(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors, by name, whose numbers are no floating-point ones, or are NaN or infinite.

    Raises UserError that names five of each kind at most; `source` begins its sentence.
    """
    weights = {name: tensor for name, tensor in tensors.items() if not name.endswith(_NO_WEIGHTS)}
    kinds = {
        "no floating-point numbers": [name for name, tensor in weights.items() if not tensor.is_floating_point()],
        "NaN or infinite values": [
            name for name, tensor in weights.items() if tensor.is_floating_point() and not _is_finite(tensor)
        ],
    }
    if problems := [f"{what} in {listed(names)}" for what, names in kinds.items() if names]:
        raise UserError(f"{source} holds {' and '.join(problems)}: it is damaged, or these are no model's weights.")


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite: then their sum is, which is found several times as fast, unless it overflows."""
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
