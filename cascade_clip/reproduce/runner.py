"""Doing runs: commands of `cascade-clip` one after the other, in as many places at once as there are devices."""

from __future__ import annotations

import os
import queue
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from cascade_clip.errors import UserError
from cascade_clip.reproduce.runs import Run

USER_MISTAKE = 2
_POLL_SECONDS = 0.5
_PROMPT = "$ cascade-clip"


class Launcher(Protocol):
    """What runs commands."""

    def run(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        """Run `cascade-clip` with arguments, write what it says to the end of a file, return its exit code."""
        ...

    def stop(self) -> None:
        """End what is under way, called from another thread."""
        ...


@dataclass(frozen=True)
class Slot:
    """A place that does one run at a time.

    Attributes:
        options: Options that every command gets there.
        environment: Variables that pin it to a device.
    """

    options: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why a run is not finished.

    Attributes:
        message: What its command said.
        code: Its exit code.
        log: File with everything it said.
    """

    message: str
    code: int
    log: Path


@dataclass(frozen=True)
class Progress:
    """How far all runs are.

    Attributes:
        active: Runs under way.
        done: Runs that are finished.
        failures: Runs that failed so far, by folder.
        total: All runs.
    """

    active: tuple[Run, ...]
    done: int
    failures: Mapping[Path, Failure]
    total: int


def make_slots(jobs: int | None, device: str, precision: str) -> list[Slot]:
    """Share runs out to devices.

    Args:
        jobs: Runs at once; unset: one a CUDA device, else one.
        device: `auto` and `cuda` use all CUDA devices that PyTorch sees; anything else is used as it is.
        precision: Passed on.

    Raises:
        UserError: A device or precision that is not to be had.
    """
    import torch

    from cascade_clip.runtime import resolve_device, resolve_precision

    chosen = resolve_device(device)
    resolve_precision(precision, chosen)
    options = ("--precision", precision, "--device")
    if chosen.type == "cuda" and device in {"auto", "cuda"}:
        names = _visible_devices(torch.cuda.device_count())
        pinned = [Slot((*options, "cuda"), {"CUDA_VISIBLE_DEVICES": name}) for name in names]
        return [pinned[number % len(pinned)] for number in range(jobs or len(pinned))]
    environment = {}
    if chosen.type == "cpu" and jobs and jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        # Each process would start as many threads as there are cores.
        environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    return [Slot((*options, str(chosen)), environment)] * (jobs or 1)


def run_all(
    runs: Sequence[Run], slots: Sequence[Slot], launcher: Launcher, watch: Callable[[Progress], None] | None = None
) -> dict[Path, Failure]:
    """Bring runs to their end; one that fails does not stop the others.

    Args:
        runs: Runs with different folders; finished ones cost nothing, interrupted ones are resumed.
        slots: Where they run, one a slot at a time.
        launcher: Runs their commands.
        watch: Told twice a second how far they are.

    Returns:
        The failures by the run's folder.

    Raises:
        KeyboardInterrupt: Passed on after the commands under way have ended; all of them can be resumed.
    """
    work = _Work(slots, launcher, len(runs))
    with ThreadPoolExecutor(len(slots)) as pool:
        try:
            # What self-training starts from is finished before any of it begins.
            for wave in ([run for run in runs if run.init is None], [run for run in runs if run.init is not None]):
                pending = {pool.submit(work.complete, run) for run in wave}
                while pending:
                    done, pending = wait(pending, _POLL_SECONDS, FIRST_COMPLETED)
                    for future in done:
                        future.result()
                    if watch is not None:
                        watch(work.progress())
        except BaseException:
            work.stopped = True
            launcher.stop()
            raise
    return work.failures


class _Work:
    """What the threads share: free slots, and what came of the runs."""

    def __init__(self, slots: Sequence[Slot], launcher: Launcher, total: int) -> None:
        self.launcher, self.total, self.stopped = launcher, total, False
        self.active: list[Run] = []
        self.done: list[Run] = []
        self.failures: dict[Path, Failure] = {}
        self._slots: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in slots:
            self._slots.put(slot)

    def complete(self, run: Run) -> None:
        """Give the run's commands one after the other, until it is finished or one of them fails."""
        slot = self._slots.get()
        self.active.append(run)
        try:
            with self._alone(run):
                failure = self._failure(run, slot)
        except UserError as error:
            failure = Failure(str(error), USER_MISTAKE, run.log)
        finally:
            self.active.remove(run)
            self._slots.put(slot)
        if failure is not None:
            self.failures[run.folder] = failure
        elif not self.stopped:
            self.done.append(run)

    @contextmanager
    def _alone(self, run: Run) -> Iterator[None]:
        """Wait while another `reproduce`, here or on a machine that shares the folder, works on the same run."""
        run.lock.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run.lock)
        while not self.stopped:
            with suppress(Timeout):
                lock.acquire(timeout=_POLL_SECONDS)
                break
        try:
            yield
        finally:
            lock.release()

    def progress(self) -> Progress:
        return Progress(tuple(self.active), len(self.done), dict(self.failures), self.total)

    def _failure(self, run: Run, slot: Slot) -> Failure | None:
        if run.init is not None and not run.init.trained:
            return Failure("The inductive run that it starts from has failed.", USER_MISTAKE, run.init.log)
        last = None
        while not self.stopped and (command := run.next_command()) is not None:
            if command == last:
                return Failure(f"`cascade-clip {' '.join(command)}` ended without a result.", 1, run.log)
            last = command
            run.write_recipe()
            _announce(command, run.log)
            if code := self.launcher.run([*command, *slot.options], run.log, slot.environment):
                return Failure(_reason(run.log, code), code, run.log)
        return None


def _announce(command: Sequence[str], log: Path) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{_PROMPT} {' '.join(command)}\n")


def _reason(log: Path, code: int) -> str:
    """Why the last command of a log failed: its error where it says one, else its last line."""
    said = log.read_text(encoding="utf-8", errors="replace").rpartition(_PROMPT)[2].partition("\n")[2]
    if error := re.search(r"^Error: (.*)", said, re.MULTILINE | re.DOTALL):
        return error[1].strip()
    if code < 0:
        return f"The run was ended by signal {-code}: too little memory is a usual cause."
    lines = said.strip().splitlines()
    return lines[-1].strip() if lines else f"The command ended with code {code}."


def _visible_devices(count: int) -> list[str]:
    """Names by which a process of its own finds the CUDA devices that this one sees."""
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return names[:count] or [str(number) for number in range(count)]
