"""One measurement from settings to record."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from cascade_clip.bench.counting import matrix_product
from cascade_clip.bench.kinds import build_workload
from cascade_clip.bench.peak_memory import measure_memory
from cascade_clip.bench.settings import BenchSettings
from cascade_clip.bench.timing import LARGEST_SPREAD, WARM_UP_ROUNDS, Sample, Turns
from cascade_clip.bench.workload import COMPILED, Workload
from cascade_clip.runtime import DTYPES

FORMAT_VERSION = 1
_PACKAGES = ("cascade-clip", "torch", "open_clip_torch", "accelerate", "numpy", "pillow")
_CPU_INFO = Path("/proc/cpuinfo")
MATRIX_PRODUCT = "matrix product"

Progress = Callable[[str], None]


def run_bench(settings: BenchSettings, *, memory: bool = True, progress: Progress | None = None) -> dict[str, Any]:
    """Measure what the settings ask for.

    Args:
        settings: What, how often, on which device.
        memory: Measure peak memory too, in a process of its own for each subject.
        progress: Told what is being done.

    Returns:
        What JSON holds: settings, environment, and of each subject seconds, ratio to the reference, images/s, memory
        and floating-point operations; the rooms; facts of the model. Figures are medians of rounds in which all
        subjects take turns; a spread is the distance of the quartiles over the median.

    Raises:
        UserError: A model, size, device or precision that is not to be had.
    """
    with TemporaryDirectory(prefix="cascade-clip-bench-") as folder:
        workload = build_workload(settings, Path(folder))
        turns = Turns(workload.device, progress)
        workload.measure(turns, WARM_UP_ROUNDS + settings.repeats)
        record: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "settings": settings.to_dict(),
            "environment": environment(workload.device),
            "reference": workload.reference,
            "subjects": _subjects(workload, turns),
        }
        _tell(progress, "where the time goes")
        record["rooms_ms"] = {room: 1000 * seconds for room, seconds in workload.rooms(settings.repeats).items()}
        if settings.kind != "prepare":
            _tell(progress, "counting operations")
            _add_rates(record, workload, settings)
        record["facts"] = workload.facts()
    del workload
    if memory:
        peaks = measure_memory(settings, list(record["subjects"]), progress)
        for name, peak in peaks.items():
            record["subjects"][name]["memory"] = peak
    return record


def warnings_of(record: Mapping[str, Any]) -> list[str]:
    """What stands in the way of concluding anything from a record, in sentences; empty where nothing does."""
    spreads = {name: figures["ratio_spread"] for name, figures in record["subjects"].items()}
    if None in spreads.values():
        return ["A single round says nothing about the spread: give --repeats 5 or more to conclude anything."]
    wide = [f"{name} ({100 * spread:.0f} %)" for name, spread in spreads.items() if spread > LARGEST_SPREAD]
    if not wide:
        return []
    return [
        f"Nothing can be concluded from ratios that spread by more than {100 * LARGEST_SPREAD:.0f} % between their"
        f" quartiles: {', '.join(wide)}. Give more --repeats, or the machine more rest."
    ]


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, processor, device and threads."""
    on_cuda = device.type == "cuda"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: version(package) for package in _PACKAGES},
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if on_cuda else device.type,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _subjects(workload: Workload, turns: Turns) -> dict[str, dict[str, Any]]:
    samples, first = turns.samples(), turns.first()
    reference = _per_image(samples[workload.reference], workload.images[workload.reference])
    subjects = {}
    for name in workload.subjects:
        images = workload.images[name]
        sample = _per_image(samples[name], images)
        ratio = sample.over(reference)
        subjects[name] = {
            "images_per_turn": images,
            "ms": [round(1000 * seconds, 4) for seconds in sample.values],
            "median_ms": 1000 * sample.median,
            "spread": _finite(sample.spread),
            "latency_ms": 1000 * samples[name].median,
            "images_per_second": 1 / sample.median,
            "first_turn_ms": 1000 * first[name],
            "ratio": ratio.median,
            "ratio_spread": _finite(ratio.spread),
            "ratios": [round(value, 5) for value in ratio.values],
        }
    return subjects


def _add_rates(record: dict[str, Any], workload: Workload, settings: BenchSettings) -> None:
    """Operations of each subject, and its share of what the device's matrix products reach in the same precision."""
    call, flops = matrix_product(workload.device, DTYPES[settings.precision])
    turns = Turns(workload.device)
    for _ in range(WARM_UP_ROUNDS + settings.repeats):
        turns.take(MATRIX_PRODUCT, call)
    rate = flops / turns.samples()[MATRIX_PRODUCT].median
    record["matrix_product_gflops_per_second"] = rate / 1e9
    for name, images in workload.images.items():
        # The counter does not see into compiled code, whose operations are those of the code that was compiled.
        operations = workload.flops(name.removesuffix(f", {COMPILED}")) / images
        figures = record["subjects"][name]
        figures["gflops"] = operations / 1e9
        figures["share_of_matrix_rate"] = operations * figures["images_per_second"] / rate


def _per_image(sample: Sample, images: int) -> Sample:
    return Sample(tuple(seconds / images for seconds in sample.values))


def _finite(spread: float) -> float | None:
    """None for the unknown spread of a single round: JSON has no infinity."""
    return spread if spread != float("inf") else None


def _processor() -> str:
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _tell(progress: Progress | None, note: str) -> None:
    if progress is not None:
        progress(note)
