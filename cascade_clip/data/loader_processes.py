"""Loader processes: how many the machine has room for, what signals do to them, and what it means when one is gone."""

import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

from cascade_clip.errors import UserError, counted
from cascade_clip.runtime import usable_cores

if sys.platform != "win32":
    import resource

logger = logging.getLogger(__name__)
SHARED_MEMORY = "/dev/shm"
MOST_BY_DEFAULT = 8
BATCHES_AHEAD = 2
"""Micro-batches that each process loads ahead."""
_HANDLES_OF_A_PROCESS = 10
_HANDLES_OF_A_BATCH = 3
_HANDLES_SPARE = 64
_SECONDS_AFTER_SIGTERM = 20
_MEBIBYTE = 2**20
_LOST_WORKER = re.compile(r"DataLoader worker .*(exited unexpectedly|killed by signal)", re.DOTALL)


def processes_by_default(world: int = 1) -> int:
    """Loader processes of one training process where the recipe names none: its share of the cores, at most eight."""
    return min(max(1, usable_cores() // world), MOST_BY_DEFAULT)


def processes_with_room(wanted: int, batch_bytes: int, world: int = 1) -> int:
    """How many of the loader processes that a recipe asks for have room; the samples do not depend on their number.

    Fewer are used, and a warning says how to make room, where /dev/shm is small (64 MiB in a container of Docker) or
    the number of open files is limited. The limit is raised as far as this process may. All `world` training processes
    of this machine share /dev/shm.
    """
    if wanted == 0 or sys.platform != "linux":
        return wanted
    batches = int(0.9 * _free_shared_memory()) // max(batch_bytes * world, 1)
    in_memory = max(0, (batches - 1) // BATCHES_AHEAD)
    each = _HANDLES_OF_A_PROCESS + BATCHES_AHEAD * _HANDLES_OF_A_BATCH
    handles = _file_limit(_HANDLES_SPARE + each * wanted + len(list(Path("/proc/self/fd").iterdir())))
    by_handles = max(0, (handles - _HANDLES_SPARE - len(list(Path("/proc/self/fd").iterdir()))) // each)
    used = min(wanted, in_memory, by_handles)
    if used < wanted:
        reason = (
            f"{SHARED_MEMORY} has room for {batches} batches of {batch_bytes / _MEBIBYTE:.0f} MiB: give it more"
            " (docker run --shm-size=8g)"
            if in_memory <= by_handles
            else f"only {handles} files may be open at once: raise the limit (ulimit -n 4096)"
        )
        _warn(f"Loading with {counted(used, 'process')} instead of train.workers={wanted}, as {reason}.")
    return used


@cache
def _warn(message: str) -> None:
    """Warn once, in one process of several."""
    if os.environ.get("RANK", "0") == "0":
        logger.warning(message)


def prepare_process(_number: int) -> None:
    """Keep a loader process at work while the training process finishes its last step.

    Ctrl-C reaches all processes of a terminal, and a scheduler's SIGTERM all of a job.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, _end_later)


def _end_later(_number: int, _frame: FrameType | None) -> None:
    signal.alarm(_SECONDS_AFTER_SIGTERM)


def end_processes(batches: object) -> None:
    """End the loader processes of a DataLoader's iterator now.

    PyTorch ends them with the iterator, which the traceback of an error keeps; at the exit they would then take the
    system's SIGTERM for a scheduler's and hold up the process for `_SECONDS_AFTER_SIGTERM`.
    """
    if (end := getattr(batches, "_shutdown_workers", None)) is not None:
        end()


@contextmanager
def explained_loss() -> Iterator[None]:
    """Around training: UserError where a loader process was killed, for which PyTorch raises its own at any point."""
    try:
        yield
    except RuntimeError as error:
        if not _LOST_WORKER.search(str(error)):
            raise
        found = re.search(r"killed by signal: ([^.]*)", str(error))
        reason = found[1].strip() if found else "without a reason"
        raise UserError(
            f"A loader process of train.workers was killed ({reason}), as the system does when memory is"
            " full: free memory, in a container that of /dev/shm too (docker run --shm-size=8g), then continue with"
            " --resume."
        ) from error


def _free_shared_memory() -> int:
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return sys.maxsize
    return found.f_bavail * found.f_frsize


def _file_limit(needed: int) -> int:
    """How many files this process may have open, after asking for as many as are needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
