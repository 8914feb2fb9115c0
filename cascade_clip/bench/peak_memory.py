"""Peak memory, measured in a fresh process a subject: what ran before would hide it.

Run as a program, it reads settings and a subject's name as JSON from stdin and prints its own peak as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cascade_clip.bench.settings import BenchSettings

_STATUS = Path("/proc/self/status")
MEBIBYTE = 2**20


def measure_memory(
    settings: BenchSettings, subjects: Sequence[str], progress: Callable[[str], None] | None = None
) -> dict[str, dict[str, float]]:
    """Run each subject in a process of its own, and one process that builds everything and runs none.

    Args:
        settings: What is measured.
        subjects: Names of the workload's subjects.
        progress: Told each subject before its process starts.

    Returns:
        Subject -> `host_mib`, the peak of its whole process; `host_above_build_mib`, how far that is above the process
        that only builds (imports and weights); on a GPU `device_mib`, the peak of PyTorch's own counter.

    Raises:
        RuntimeError: A process failed; with the end of what it said.
    """
    built = _in_own_process(settings, None)["host_mib"]
    peaks = {}
    for subject in subjects:
        if progress is not None:
            progress(f"memory of {subject}")
        peak = _in_own_process(settings, subject)
        peaks[subject] = {**peak, "host_above_build_mib": max(0.0, peak["host_mib"] - built)}
    return peaks


def _in_own_process(settings: BenchSettings, subject: str | None) -> dict[str, float]:
    threads = {} if settings.threads is None else {"OMP_NUM_THREADS": str(settings.threads)}
    answer = subprocess.run(
        [sys.executable, "-m", "cascade_clip.bench.peak_memory"],
        input=json.dumps({"settings": settings.to_dict(), "subject": subject}),
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise RuntimeError(f"The process that measures the memory of {subject} failed: {answer.stderr[-2000:]}")
    peak: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return peak


def _host_peak() -> float:
    """Peak of this process's resident memory in MiB.

    Linux's `ru_maxrss` starts at the peak of the process that started this one; `VmHWM` is this program's own.
    """
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MEBIBYTE if sys.platform == "darwin" else peak / 1024


def _main() -> None:
    import torch

    from cascade_clip.bench.kinds import build_workload

    request = json.loads(sys.stdin.read())
    with TemporaryDirectory(prefix="cascade-clip-bench-") as folder:
        workload = build_workload(BenchSettings.from_dict(request["settings"]), Path(folder))
        on_cuda = workload.device.type == "cuda"
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(workload.device)
        if request["subject"] is not None:
            workload.run(request["subject"])
        peak = {"host_mib": _host_peak()}
        if on_cuda:
            peak["device_mib"] = torch.cuda.max_memory_allocated(workload.device) / MEBIBYTE
    sys.stdout.write(json.dumps(peak) + "\n")


if __name__ == "__main__":
    _main()
