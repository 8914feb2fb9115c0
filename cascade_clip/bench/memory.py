"""Peak memory, each subject in a process of its own: what ran before would hide it."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cascade_clip.bench.settings import BenchSettings
from cascade_clip.bench.workloads import build_workload

_STATUS = Path("/proc/self/status")
MEBIBYTE = 2**20


def peak_memory(
    settings: BenchSettings, subjects: Iterable[str], progress: Callable[[str], None] = lambda _: None
) -> dict[str, dict[str, float]]:
    """Run each subject in a fresh process, and one process that builds everything and runs none.

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
        if subject is not None:
            for _ in range(3):
                workload.subjects[subject].call()
        peak = {"host_mib": _host_peak()}
        if on_cuda:
            peak["device_mib"] = torch.cuda.max_memory_allocated(workload.device) / MEBIBYTE
    return peak


def _host_peak() -> float:
    """Peak of this process's resident memory in MiB.

    On Linux `ru_maxrss` starts at the peak of the process that started this one; `VmHWM` is this program's own.
    """
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MEBIBYTE if sys.platform == "darwin" else peak / 1024
