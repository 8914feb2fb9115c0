"""Running what is not finished: `cascade-clip` commands as processes of their own, several at a time."""

import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cascade_clip.errors import UserError
from cascade_clip.reproduce.runs import Run
from cascade_clip.runtime import resolve_device, resolve_precision, usable_cores

USER_MISTAKE = 2
_POLL_SECONDS = 0.5
_SIGNALS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))
"""What ends a command, in turn, and the seconds that it is given."""
_PROMPT = "$ cascade-clip"


@dataclass(frozen=True)
class RunDevice:
    """Where one run at a time is computed: options of every command, and environment variables that pin it there."""

    options: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """Why a run is not finished: the message and exit code of its command, and the file with all of its output."""

    message: str
    code: int
    log: Path


@dataclass(frozen=True)
class RunsState:
    """Progress of all runs: those under way, the number finished, those failed by folder, the number of all."""

    active: tuple[Run, ...]
    done: int
    failures: Mapping[Path, Failure]
    total: int


class Commands:
    """Runs `cascade-clip` commands as child processes, from several threads; `stop` ends all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        """Run a command with variables on top of this process's, append its output to `log`, and wait for it.

        Gives its exit code, negative where a signal ended it.
        """
        with log.open("ab") as file, self._lock:
            if self._stopped:
                return -signal.SIGTERM
            process = subprocess.Popen(
                [sys.executable, "-m", "cascade_clip_cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )
            self._running.add(process)
        try:
            return process.wait()
        finally:
            self._running.discard(process)

    def stop(self) -> None:
        """End the commands under way, by force those that take too long, and start no more."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        # SIGINT lets a training end its loader workers; children of a background job ignore it.
        for number, seconds in _SIGNALS:
            running = [process for process in running if process.poll() is None]
            for process in running:
                process.send_signal(number)
            for process in running:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)


def devices_for_runs(jobs: int | None, device: str, precision: str) -> list[RunDevice]:
    """Choose how many runs go on at once, and where: one entry for each.

    Without `jobs` it is one per CUDA device, or one. The devices `auto` and `cuda` use all CUDA devices that PyTorch
    sees in turn; anything else is used as it is. The precision is passed on to the commands. Raises UserError: the
    device is missing, or does not support the precision.
    """
    chosen = resolve_device(device)
    resolve_precision(precision, chosen)
    options = ("--precision", precision, "--device")
    if chosen.type == "cuda" and device in {"auto", "cuda"}:
        count = torch.cuda.device_count()
        visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        names = visible[:count] or [str(number) for number in range(count)]
        pinned = [RunDevice((*options, "cuda"), {"CUDA_VISIBLE_DEVICES": name}) for name in names]
        return [pinned[number % len(pinned)] for number in range(jobs or len(pinned))]
    environment = {}
    if chosen.type == "cpu" and jobs and jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
        # Each process would start as many threads as there are cores.
        environment = {"OMP_NUM_THREADS": str(max(1, usable_cores() // jobs))}
    return [RunDevice((*options, str(chosen)), environment)] * (jobs or 1)


def run_all(
    runs: Sequence[Run],
    devices: Sequence[RunDevice],
    commands: Commands,
    watch: Callable[[RunsState], None] | None = None,
) -> dict[Path, Failure]:
    """Complete runs with different folders, one at a time on each device; one that fails does not stop the others.

    Finished runs are left alone, interrupted ones are resumed; `watch` is called twice a second. Gives the failures, by
    the run's folder. KeyboardInterrupt is passed on, with a sentence, after the commands under way have ended; all of
    them can be resumed.
    """
    free: queue.SimpleQueue[RunDevice] = queue.SimpleQueue()
    for device in devices:
        free.put(device)
    futures: dict[Future[Failure | None], Run] = {}

    def state() -> RunsState:
        ended = {run.folder: future.result() for future, run in futures.items() if future.done()}
        failures = {folder: failure for folder, failure in ended.items() if failure is not None}
        active = tuple(run for future, run in futures.items() if future.running())
        return RunsState(active, len(ended) - len(failures), failures, len(runs))

    with ThreadPoolExecutor(len(devices)) as pool:
        try:
            # What self-training starts from is finished before any of it begins.
            for wave in ([run for run in runs if run.init is None], [run for run in runs if run.init is not None]):
                pending = {pool.submit(_complete, run, free, commands): run for run in wave}
                futures |= pending
                waiting = set(pending)
                while waiting:
                    _, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
                    if watch is not None:
                        watch(state())
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            commands.stop()
            if isinstance(error, KeyboardInterrupt):
                raise type(error)("Interrupted; the same command continues.") from error
            raise
    return dict(state().failures)


def _complete(run: Run, free: queue.SimpleQueue[RunDevice], commands: Commands) -> Failure | None:
    """Run the commands that a run needs one after the other, until it is finished or one of them fails."""
    device = free.get()
    last = None
    run.log.parent.mkdir(parents=True, exist_ok=True)
    try:
        if run.init is not None and not run.init.trained:
            return Failure("The inductive run that it starts from has failed.", USER_MISTAKE, run.init.log)
        while (command := run.next_command()) is not None:
            if command == last:
                return Failure(f"`cascade-clip {' '.join(command)}` ended without a result.", 1, run.log)
            last = command
            run.write_recipe()
            with run.log.open("a", encoding="utf-8") as file:
                file.write(f"{_PROMPT} {shlex.join(command)}\n")
            if code := commands.run([*command, *device.options], run.log, device.environment):
                return Failure(_reason(run.log, code), code, run.log)
    except UserError as error:
        return Failure(str(error), USER_MISTAKE, run.log)
    finally:
        free.put(device)
    return None


def _reason(log: Path, code: int) -> str:
    """Why the last command of a log failed: its error message if it has one, else its last line."""
    said = log.read_text(encoding="utf-8", errors="replace").rpartition(_PROMPT)[2].partition("\n")[2]
    if error := re.search(r"^Error: (.*)", said, re.MULTILINE | re.DOTALL):
        return error[1].strip()
    if code < 0:
        return f"The run was ended by signal {-code}: too little memory is a usual cause."
    lines = said.strip().splitlines()
    return lines[-1].strip() if lines else f"The command ended with code {code}."
