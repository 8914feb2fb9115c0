"""One measurement from settings to the record that `--json` writes."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from cascade_clip.bench.memory import peak_memory
from cascade_clip.bench.settings import BenchSettings
from cascade_clip.bench.timing import LARGEST_SPREAD, WARM_UP_ROUNDS, PartClock, spread, time_in_turns
from cascade_clip.bench.workloads import COMPILED, Workload, build_workload
from cascade_clip.faster_linear import has_onednn, onednn_linear
from cascade_clip.runtime import DTYPES, package_version

FORMAT_VERSION = 1
_PACKAGES = ("cascade-clip", "torch", "open_clip_torch", "accelerate", "numpy", "pillow")
_LIMITS = ("fp32", "bf16")
"""Precisions whose matrix rate is told whatever was measured."""
_CPU_INFO = Path("/proc/cpuinfo")


def run_bench(
    settings: BenchSettings, *, memory: bool = True, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure what the settings ask for.

    Args:
        settings: What, how often, on which device.
        memory: Measure peak memory too, in a process of its own for each subject.
        progress: Called with what is being done.

    Returns:
        The record, ready for JSON: settings, environment, and of each subject milliseconds per image, ratio to the
        reference, images/s, floating-point operations and memory; milliseconds of each part; facts of the model.
        Figures are medians of rounds in which all subjects take turns, spreads are interquartile ranges over the
        median.

    Raises:
        UserError: A model, size, device or precision that cannot be had.
    """
    with TemporaryDirectory(prefix="cascade-clip-bench-") as folder:
        workload = build_workload(settings, Path(folder))
        calls = {name: subject.call for name, subject in workload.subjects.items()}
        seconds = time_in_turns(calls, settings.repeats, progress)
        record: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "settings": settings.to_dict(),
            "environment": _environment(workload.device),
            "reference": workload.reference,
            "subjects": _subjects(workload, seconds),
        }
        progress("where the time goes")
        record["rooms_ms"] = _parts(workload, settings.repeats)
        if settings.kind != "prepare":
            progress("counting operations")
            _add_rates(record, workload, settings)
        record["facts"] = workload.facts()
    del workload, calls
    if memory:
        for name, peak in peak_memory(settings, record["subjects"], progress).items():
            record["subjects"][name]["memory"] = peak
    return record


def warnings_of(record: Mapping[str, Any]) -> list[str]:
    """Why nothing can be concluded from a record, in sentences; empty where something can."""
    spreads = {name: figures["ratio_spread"] for name, figures in record["subjects"].items()}
    if None in spreads.values():
        return ["A single round says nothing about the spread: give --repeats 5 or more to conclude anything."]
    wide = [f"{name} ({100 * value:.0f} %)" for name, value in spreads.items() if value > LARGEST_SPREAD]
    if not wide:
        return []
    return [
        f"Nothing can be concluded from ratios that spread by more than {100 * LARGEST_SPREAD:.0f} % between their"
        f" quartiles: {', '.join(wide)}. Give more --repeats, or the machine more rest."
    ]


def _subjects(workload: Workload, seconds: Mapping[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Figures of each subject, per image, over the rounds that count."""
    per_image = {
        name: [value / workload.subjects[name].images for value in values[WARM_UP_ROUNDS:]]
        for name, values in seconds.items()
    }
    subjects = {}
    for name, values in per_image.items():
        ratios = [value / reference for value, reference in zip(values, per_image[workload.reference], strict=True)]
        images = workload.subjects[name].images
        subjects[name] = {
            "images_per_turn": images,
            "ms": [round(1000 * value, 4) for value in values],
            "median_ms": 1000 * median(values),
            "spread": _finite(spread(values)),
            "latency_ms": 1000 * images * median(values),
            "images_per_second": 1 / median(values),
            "first_turn_ms": 1000 * seconds[name][0],
            "ratio": median(ratios),
            "ratio_spread": _finite(spread(ratios)),
            "ratios": [round(ratio, 5) for ratio in ratios],
        }
    return subjects


def _parts(workload: Workload, rounds: int) -> dict[str, float]:
    """Median milliseconds of each part of the main subject, per image of inference or per training step."""
    if workload.timed_pass is None:
        return {}
    passes = []
    for _ in range(WARM_UP_ROUNDS + rounds):
        clock = PartClock()
        workload.timed_pass(clock)
        passes.append(clock.seconds)
    counted = passes[WARM_UP_ROUNDS:]
    return {part: 1000 * median(one[part] for one in counted) / workload.images_per_pass for part in counted[0]}


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


def _add_rates(record: dict[str, Any], workload: Workload, settings: BenchSettings) -> None:
    """Operations of each subject per image, and its share of the rate that the device reaches in a matrix product."""
    rates = {
        name: _matrix_rate(workload.device, DTYPES[name]) for name in dict.fromkeys((settings.precision, *_LIMITS))
    }
    rate = rates[settings.precision]
    record["matrix_product_gflops_per_second"] = rate / 1e9
    record["matrix_rates"] = {name: value / 1e9 for name, value in rates.items()}
    for name, figures in record["subjects"].items():
        # The counter does not see into compiled code, whose operations are those of what was compiled.
        call, images = workload.subjects[name.removesuffix(COMPILED)]
        operations = count_flops(call) / images
        figures["gflops"] = operations / 1e9
        figures["share_of_matrix_rate"] = operations * figures["images_per_second"] / rate


def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product by the fastest library that PyTorch has here."""
    side = 1024 if device.type == "cpu" else 8192
    matrix = torch.randn(side, side, device=device).to(dtype)
    products: list[Callable[..., Tensor]] = [F.linear]
    if device.type == "cpu" and dtype == torch.float32 and has_onednn():
        products.append(onednn_linear)
    timers = [
        Timer(
            "product(matrix, matrix)",
            globals={"product": product, "matrix": matrix},
            num_threads=torch.get_num_threads(),
        )
        for product in products
    ]
    with torch.inference_mode():
        return 2 * side**3 / min(timer.blocked_autorange().median for timer in timers)


def _environment(device: torch.device) -> dict[str, Any]:
    """Versions, processor, device and threads."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: package_version(package) for package in _PACKAGES},
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _processor() -> str:
    """Linux knows the processor's name from a file alone."""
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _finite(value: float) -> float | None:
    """None for the unknown spread of a single round: JSON has no infinity."""
    return value if math.isfinite(value) else None
