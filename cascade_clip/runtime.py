"""Seed, device and precision, chosen once for a run."""

import logging
import os
import platform
import random
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import psutil
import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object

from cascade_clip.errors import UserError, closest

logger = logging.getLogger(__name__)
Precision = Literal["fp32", "bf16", "fp16"]
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says how much memory a container may use."""
_PROCESSOR_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Where it says how much of the processors: microseconds of work in a period of microseconds."""
LARGEST_GRID = 128
"""Patches along a side of a square; CLIP was trained on 14, the released models on 32."""
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Choose `auto` (cuda, else mps, else cpu), `cpu`, `cuda`, `cuda:N` or `mps`; UserError where it is not there."""
    name = str(device)
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "cpu:0":  # PyTorch's own name for it, which Accelerate gives each of several processes
        return torch.device("cpu")
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    parts = re.fullmatch(r"(?:cpu|mps)|(cuda)(?::(\d{1,4}))?", name, re.ASCII)
    if parts is None:
        hint = (
            "Only CUDA devices have numbers."
            if name.startswith(("cpu:", "mps:"))
            else "Known: auto, cpu, cuda, cuda:N, mps."
        )
        raise UserError(f'"{name}" is no device. {hint}')
    kind, index = parts[1] or name, parts[2]
    if kind == "cuda" and int(index or 0) >= (count := torch.cuda.device_count() if cuda else 0):
        raise UserError(
            f'The device "{name}" is not available: PyTorch sees {count} CUDA devices. Use --device auto or cpu.'
        )
    if kind == "mps" and not mps:
        raise UserError('The device "mps" is not available: PyTorch sees no Apple GPU. Use --device auto or cpu.')
    return torch.device(name)


def process_state(device: torch.device) -> PartialState:
    """Accelerate's state of this process, on this kind of device.

    Accelerate keeps the device and precision of an earlier use in the same Python process, and would train on the CPU
    what is asked for on a GPU.
    """
    launched = PartialState._shared_state.get("num_processes", 1) > 1
    AcceleratorState._reset_state(reset_partial_state=not launched)
    return PartialState(cpu=device.type == "cpu")


def own_process(device: str) -> tuple[PartialState, str]:
    """Accelerate's state of this process, and its device: among several processes of a launch each has its own."""
    state = process_state(resolve_device(device))
    return state, str(state.device) if state.num_processes > 1 else device


def gathered(own: Any) -> list[Any]:
    """Collect a value from every process, by rank; called in all of them."""
    return list(gather_object([own]))


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Choose the number format of the network's products; weights and scores stay fp32.

    Raises UserError for an unknown name, or fp16 on a CPU, which has no fast half-precision products.
    """
    if name not in DTYPES:
        raise UserError(f'"{name}" is no precision.{closest(name, get_args(Precision))}')
    if name == "fp16" and device.type == "cpu":
        raise UserError('The precision "fp16" needs a GPU: on the CPU use fp32 or bf16.')
    if name == "bf16" and device.type == "cpu":
        _warn_of_slow_bf16()
    return DTYPES[name]


def has_bf16() -> bool:
    """Whether this processor has bf16 instructions; PyTorch knows that of x86 only, of others it is taken for true."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return not x86 or (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def _warn_of_slow_bf16() -> None:
    """Warn once if this processor has no bf16 instructions."""
    if not has_bf16():
        logger.warning("This processor has no instructions for bf16: --precision fp32 is faster here.")


def check_memory(needed: int, what: str, way_out: str) -> None:
    """Refuse work that cannot fit into the memory of this machine, or container, before any of it is allocated.

    `what` takes at least `needed` bytes, as a sentence begins with it; `way_out` is what to give instead.
    """
    if needed > (available := _memory()):
        raise UserError(
            f"{what} takes at least {needed / 1e9:,.1f} GB of memory, and this machine has {available / 1e9:,.1f} GB:"
            f" {way_out}."
        )


def check_grid(side: int, patch: int, what: str, option: str) -> None:
    """Refuse squares that would take hours each, as attention compares every patch with every other.

    `side` and `patch` are in pixels; `what` the square is, as a sentence begins with it; `option` gives its side, as
    the user writes it before the number. UserError for more than `LARGEST_GRID` patches along a side.
    """
    if side > (largest := LARGEST_GRID * patch):
        raise UserError(
            f"{what} of {side:,} x {side:,} pixels has {(side // patch) ** 2:,} patches, too many to compare each with"
            f" each: use at most {option}{largest}."
        )


def _memory() -> int:
    """Bytes of memory of the machine, or of the container where that may use less."""
    limits = [int(psutil.virtual_memory().total)]
    for file in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):
            limits.append(int(file.read_text(encoding="ascii")))
    return min(limits)


def usable_cores() -> int:
    """Processor cores that this process may use: fewer than the machine has in a job or a container that is limited."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        work, period = (int(part) for part in _PROCESSOR_LIMIT.read_text(encoding="ascii").split())
        cores = min(cores, max(1, round(work / period)))
    return cores


def products_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to `dtype` for the network's products; for float32 nothing is cast."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a tensor; to a CUDA device through pinned memory, without waiting for its queue."""
    if device.type != "cuda" or tensor.device.type == "cuda":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Keep autocast from rounding products to half precision where that would be too coarse."""
    return torch.autocast(device.type, enabled=False) if torch.amp.is_autocast_available(device.type) else nullcontext()


@contextmanager
def repeatable_sums(device: torch.device) -> Iterator[None]:
    """On a CUDA device, add up in an order that is the same in every run; other devices do so anyway.

    Inside, PyTorch raises a RuntimeError for an operation that has no such order.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first product
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def repeatable_randomness(device: torch.device) -> Iterator[None]:
    """Restore PyTorch's random state afterwards, so that the next draws equal those made inside."""
    host = torch.get_rng_state()
    backend = None if device.type == "cpu" else getattr(torch, device.type)
    own = backend.get_rng_state() if backend is not None else None
    try:
        yield
    finally:
        torch.set_rng_state(host)
        if backend is not None:
            backend.set_rng_state(own)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch on every device."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (libraries draw from the global state)
    torch.manual_seed(seed)


def package_version(package: str) -> str:
    """The version of an installed package; "not installed" of others, as this one run from its source tree."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
