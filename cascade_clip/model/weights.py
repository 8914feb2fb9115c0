"""Whether tensors that were read from a file can be weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cascade_clip.errors import UserError

_NO_WEIGHTS = ("attn_mask", "position_ids")
"""Ends of names of constants that some of open_clip's towers store beside their weights."""
_MOST_NAMED = 5


def check_weights(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors, by name, whose numbers are no floating-point ones, or are NaN or infinite.

    Raises UserError that names five of each kind at most; `source` begins its sentence.
    """
    weights = {name: tensor for name, tensor in tensors.items() if not name.endswith(_NO_WEIGHTS)}
    kinds = {
        "no floating-point numbers": [name for name, tensor in weights.items() if not tensor.is_floating_point()],
        "NaN or infinite values": [
            name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()
        ],
    }
    if problems := [f"{what} in {_listed(names)}" for what, names in kinds.items() if names]:
        raise UserError(f"{source} holds {' and '.join(problems)}: it is damaged, or these are no model's weights.")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
