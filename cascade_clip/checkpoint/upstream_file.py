"""Files of released checkpoints, mmcv pickles, which execute nothing, and the same tensors as safetensors."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cascade_clip.errors import UserError, reason_of
from cascade_clip.files import usable_path


def read_state_dict(file: Path, *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Read the tensors of an mmcv pickle `{meta, state_dict, optimizer}` or of a safetensors file.

    `trust_pickle` lets the file execute what it pickles; only for files whose source is trusted. Raises UserError for
    no file, one that needs `trust_pickle`, or one without a state dict.
    """
    if not usable_path(file, "The checkpoint").is_file():
        raise UserError(f'There is no file "{file}": give the checkpoint (.pth) that was released.')
    state = _read_safetensors(file) if _is_safetensors(file) else _read_pickle(file, trust_pickle=trust_pickle)
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _is_safetensors(file: Path) -> bool:
    """Whether a file is of this kind by its content, whatever its name: eight bytes of length, then JSON."""
    try:
        with file.open("rb") as opened:
            return opened.read(9)[8:] == b"{"
    except OSError as error:
        raise UserError(f'"{file}" cannot be read: {reason_of(error)}.') from error


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise UserError(f'"{file}" is no readable safetensors file: it is broken or cut off ({error}).') from error


def _read_pickle(file: Path, *, trust_pickle: bool) -> dict[str, Tensor]:
    try:
        # Of a path, torch would go by its ending.
        with file.open("rb") as opened:
            # Checksums, which torch does not look at.
            if zipfile.is_zipfile(opened) and (damaged := zipfile.ZipFile(opened).testzip()):
                raise zipfile.BadZipFile(damaged)
            opened.seek(0)
            content = torch.load(opened, map_location="cpu", weights_only=not trust_pickle)
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and (unsafe := re.search(r"GLOBAL (\S+)", str(error))):
            raise UserError(
                f'"{file}" pickles more than tensors and plain values ({unsafe[1]}), which could run any program on'
                " loading. If you trust where it comes from, repeat the command with --trust-pickle."
            ) from error
        raise UserError(
            f'"{file}" is no readable PyTorch checkpoint: it is broken, cut off or another kind of file.'
        ) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(map(_is_entry, state.items())):
        raise UserError(f'"{file}" holds no "state_dict" of tensors; an mmcv checkpoint was expected.')
    return dict(state)


def _is_entry(item: tuple[object, object]) -> bool:
    """Whether it is a name with a tensor in memory, each number in its place."""
    name, tensor = item
    plain = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
    return isinstance(name, str) and plain
