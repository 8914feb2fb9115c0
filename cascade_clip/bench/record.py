"""One measurement from settings to the record that `--json` writes."""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import re
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer, timer
from torch.utils.flop_counter import FlopCounterMode

from cascade_clip.bench.settings import BenchSettings
from cascade_clip.bench.workloads import COMPILED, Workload, build_workload
from cascade_clip.errors import UserError, reason_of
from cascade_clip.faster_linear import has_onednn, onednn_linear
from cascade_clip.progress import Doing, unheard
from cascade_clip.runtime import DTYPES, package_version

FORMAT_VERSION = 1
WARM_UP_ROUNDS = 2
"""Rounds that do not count: memory is allocated, kernels are chosen or compiled."""
LARGEST_SPREAD = 0.1
"""Spread of a ratio beyond which nothing is concluded from it."""
_PACKAGES = ("cascade-clip", "torch", "open_clip_torch", "accelerate", "numpy", "pillow")
_LIMITS = ("fp32", "bf16")
"""Precisions whose matrix rate is told whatever was measured."""
Verdict = Literal["faster", "slower", "no difference", "spread too wide", "reference"]
_SETTINGS = ("checkpoint", "architecture", "recipe", "overrides", "classes", "size", "batch", "precision", "threads")


def run_bench(settings: BenchSettings, *, memory: bool = True, progress: Doing = unheard) -> dict[str, Any]:
    """Measure what the settings ask for; `memory`: peak memory too, in a process of its own for each subject.

    Gives the record for JSON: settings, environment, and of each subject milliseconds per image, ratio to the
    reference, images/s, floating-point operations and memory; facts of the model. Figures are medians of rounds in
    which all subjects take turns, spreads as of `spread`. Raises UserError: a model, size, device or precision that
    cannot be had.
    """
    with TemporaryDirectory(prefix="cascade-clip-bench-") as folder:
        workload = build_workload(settings, Path(folder))
        calls = {name: subject.call for name, subject in workload.subjects.items()}
        seconds = time_in_turns(calls, settings.repeats, progress)
        record: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "settings": json.loads(json.dumps(asdict(settings))),
            "environment": _environment(workload.device),
            "reference": next(iter(workload.subjects)),
            "subjects": _subjects(workload, seconds),
        }
        if settings.kind != "prepare":
            progress("counting operations")
            _add_rates(record, workload, settings.precision)
        record["facts"] = workload.facts
    del workload, calls
    if memory:
        for name, peak in peak_memory(settings, record["subjects"], progress).items():
            record["subjects"][name]["memory"] = peak
    return record


def warnings_of(record: Mapping[str, Any]) -> list[str]:
    """Why nothing can be concluded from a record, in sentences; empty where something can."""
    spreads = {name: figures["ratio_spread"] for name, figures in record["subjects"].items()}
    if math.inf in spreads.values():
        return ["A single round says nothing about the spread: give --repeats 5 or more to conclude anything."]
    wide = [f"{name} ({100 * value:.0f} %)" for name, value in spreads.items() if value > LARGEST_SPREAD]
    if not wide:
        return []
    return [
        f"Nothing can be concluded from ratios that spread by more than {100 * LARGEST_SPREAD:.0f} % between their"
        f" quartiles: {', '.join(wide)}. Give more --repeats, or the machine more rest."
    ]


def time_in_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, progress: Doing = unheard
) -> dict[str, list[float]]:
    """Time several calls in turn, each once per round, so that other load on the machine slows all of them alike.

    `torch.utils.benchmark.Timer` would time one after the other, and run each at least three times per round. Gives the
    seconds of every round in order, `WARM_UP_ROUNDS` more than count; the clock waits for what runs on the device.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(WARM_UP_ROUNDS + rounds):
        for name, call in calls.items():
            progress(name)
            begin = timer()
            call()
            seconds[name].append(timer() - begin)
    return seconds


def spread(values: Sequence[float]) -> float:
    """Interquartile range over the median; infinite for a single value."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float((high - low) / middle) if len(values) > 1 else math.inf


def _subjects(workload: Workload, seconds: Mapping[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Figures of each subject, per image, over the rounds that count."""
    subjects: dict[str, dict[str, Any]] = {}
    reference: list[float] = []
    for name, (_, images) in workload.subjects.items():
        values = [value / images for value in seconds[name][WARM_UP_ROUNDS:]]
        reference = reference or values
        ratios = [value / other for value, other in zip(values, reference, strict=True)]
        subjects[name] = {
            "images_per_turn": images,
            "ms": [round(1000 * value, 4) for value in values],
            "median_ms": 1000 * median(values),
            "spread": spread(values),
            "images_per_second": 1 / median(values),
            "first_turn_ms": 1000 * seconds[name][0],
            "ratio": median(ratios),
            "ratio_spread": spread(ratios),
            "ratios": [round(ratio, 5) for ratio in ratios],
        }
    return subjects


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


def _add_rates(record: dict[str, Any], workload: Workload, precision: str) -> None:
    """Operations of each subject per image, and its share of the rate that the device reaches in a matrix product."""
    rates = {name: _matrix_rate(workload.device, DTYPES[name]) for name in dict.fromkeys((precision, *_LIMITS))}
    record["matrix_rates"] = {name: rate / 1e9 for name, rate in rates.items()}
    for name, figures in record["subjects"].items():
        # The counter does not see into compiled code, whose operations are those of what was compiled.
        call, images = workload.subjects[name.removesuffix(COMPILED)]
        operations = count_flops(call) / images
        figures["gflops"] = operations / 1e9
        figures["share_of_matrix_rate"] = operations * figures["images_per_second"] / rates[precision]


def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product by the fastest library that PyTorch has here."""
    side = 1024 if device.type == "cpu" else 8192
    matrix = torch.randn(side, side, device=device).to(dtype)
    products: list[Callable[..., Tensor]] = [F.linear]
    if device.type == "cpu" and dtype == torch.float32 and has_onednn():
        products.append(onednn_linear)
    threads = torch.get_num_threads()
    with torch.inference_mode():
        timers = [Timer("f(m, m)", globals={"f": product, "m": matrix}, num_threads=threads) for product in products]
        return 2 * side**3 / min(each.blocked_autorange().median for each in timers)


def peak_memory(
    settings: BenchSettings, subjects: Sequence[str] | Mapping[str, object], progress: Doing = unheard
) -> dict[str, dict[str, float]]:
    """Run each subject in a fresh process, as what ran before would hide its peak, and one process that runs none.

    Returns:
        Subject -> `host_mib`, the peak of its whole process in MiB; `host_above_build_mib`, how far that is above the
        process that only builds (imports and weights); on a GPU `device_mib`, the peak of PyTorch's allocator.
    """
    peaks: dict[str, dict[str, float]] = {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes:
        built = processes.submit(_peak, settings, None).result()["host_mib"]
        for subject in subjects:
            progress(f"memory of {subject}")
            peak = processes.submit(_peak, settings, subject).result()
            peaks[subject] = {**peak, "host_above_build_mib": max(0.0, peak["host_mib"] - built)}
    return peaks


def _peak(settings: BenchSettings, subject: str | None) -> dict[str, float]:
    logging.disable()  # The process that started this one has logged it already.
    with TemporaryDirectory(prefix="cascade-clip-bench-") as folder:
        workload = build_workload(settings, Path(folder))
        on_cuda = workload.device.type == "cuda"
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(workload.device)
        for _ in range(3 if subject is not None else 0):
            workload.subjects[subject or ""].call()
        device = {"device_mib": torch.cuda.max_memory_allocated(workload.device) / 2**20} if on_cuda else {}
        return {"host_mib": _host_peak(), **device}


def _host_peak() -> float:
    """Peak of this process's resident memory in MiB.

    On Linux `ru_maxrss` starts at the peak of the process that started this one; `VmHWM` is this program's own.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+)", status.read_text(errors="replace"))):
        return int(found[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _environment(device: torch.device) -> dict[str, Any]:
    """Versions, processor (whose name Linux knows from a file alone), device and threads."""
    lines = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", lines.read_text(errors="replace") if lines.exists() else "")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: package_version(package) for package in _PACKAGES},
        "processor": next(iter(names), platform.processor() or platform.machine()),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


class Change(NamedTuple):
    """One subject then and now: its median ratios to the reference, where less is faster whatever the machine did.

    `memory` is the peak of its process above the built model in MiB, then and now; None: not measured.
    """

    subject: str
    before: float
    after: float
    memory: tuple[float | None, float | None]
    verdict: Verdict


def read_record(path: Path, kind: str) -> dict[str, Any]:
    """Read a record that `bench KIND --json` wrote; raises UserError for a file that is none, or of another kind."""
    try:
        record: dict[str, Any] = json.loads(path.expanduser().read_text(encoding="utf-8"))
        earlier = record["settings"]["kind"]
        complete = {"subjects", "reference"} <= record.keys()
    except OSError as error:
        raise UserError(f'The earlier result "{path}" cannot be read: {reason_of(error)}.') from error
    except (ValueError, KeyError, TypeError):
        complete = False
    if not complete:
        raise UserError(f'"{path}" is no result of `cascade-clip bench`: give a file that its --json wrote.')
    if earlier != kind:
        raise UserError(
            f"The earlier result is of `bench {earlier}`, this one of `bench {kind}`: give --against a file of the same"
            " kind."
        )
    return record


def changes_since(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Compare the subjects that both records hold, in the order of the later one.

    Ratios to the reference of the same run are compared, not seconds: they are what two runs have in common. Two
    medians count as different where their notches do not overlap, and not at all where either spreads too much.
    """
    changes = []
    for name, now in after["subjects"].items():
        if (then := before["subjects"].get(name)) is None:
            continue
        old, new = then["ratios"], now["ratios"]
        memory = [figures.get("memory", {}).get("host_above_build_mib") for figures in (then, now)]
        verdict: Verdict = "reference" if name == after["reference"] else _verdict(old, new)
        changes.append(Change(name, median(old), median(new), (memory[0], memory[1]), verdict))
    return changes


def different_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What else than the code differs between two records: "threads 2 -> 4", also processor and PyTorch's version."""
    pairs = [(key, before["settings"].get(key), after["settings"].get(key)) for key in _SETTINGS]
    old, new = before["environment"], after["environment"]
    pairs += [(key, old.get(key), new.get(key)) for key in ("processor", "device")]
    pairs.append(("torch", old["packages"].get("torch"), new["packages"].get("torch")))
    return [f"{key} {then} -> {now}" for key, then, now in pairs if then != now]


def notch(values: Sequence[float]) -> tuple[float, float]:
    """Interval of the median at about 95 % confidence (McGill, Tukey and Larsen 1978): medians differ where their
    notches do not overlap."""
    middle = median(values)
    half = 1.57 * spread(values) * middle / math.sqrt(len(values))
    return middle - half, middle + half


def _verdict(before: Sequence[float], after: Sequence[float]) -> Verdict:
    if max(spread(before), spread(after)) > LARGEST_SPREAD:
        return "spread too wide"
    if notch(after)[1] < notch(before)[0]:
        return "faster"
    return "slower" if notch(after)[0] > notch(before)[1] else "no difference"
