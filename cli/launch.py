"""Several local processes: torch's elastic launch of the same command line."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import FrameType
from typing import NoReturn

from cascade_clip import runtime
from cascade_clip.errors import UserError

CHILD = "CASCADE_CLIP_PROCESS"
"""Set in the processes that `run_processes` starts: the folder in which they leave the mistakes that they found."""
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when its parent ends."""
_END_BY_LAUNCHER_S = 3.0


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which schedulers end a job; it leaves what Ctrl-C leaves."""


def run_processes(processes: int, device: str) -> bool:
    """Run this very command line in several local processes, with CUDA one a device, and wait for them.

    Gives True in the parent, when all are done; False in each of them. They are told apart by an environment variable
    of this toolkit: accelerate's launchers do not always set the usual ones.

    Raises:
        UserError: More processes than CUDA devices, or what any of the processes raised, each sentence once.
        KeyboardInterrupt: This process was interrupted, and has ended the others; `Terminated` where it was by SIGTERM.
        SystemExit: A process failed and has reported why.
    """
    if is_child():
        _end_with_parent()
        return False
    # Late, as every command that has --nproc imports this file.
    import torch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    on_cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_cuda and processes > torch.cuda.device_count():
        raise UserError(f"--nproc {processes} needs as many CUDA devices; there are {torch.cuda.device_count()}.")
    # The process that failed has reported why; the launcher would add a page about exit codes.
    for name in ("agent.server.api", "multiprocessing.api"):  # each has a level of its own
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, runtime.usable_cores() // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=uuid.uuid4().hex,
        max_restarts=0,
    )
    with tempfile.TemporaryDirectory() as reports:
        os.environ[CHILD] = reports
        try:
            elastic_launch(config, sys.executable)("-m", "cascade_clip_cli", *sys.argv[1:])
        except ChildFailedError:
            mistakes = [file.read_text(encoding="utf-8") for file in sorted(Path(reports).iterdir())]
            if mistakes:
                raise UserError("\n".join(dict.fromkeys(mistakes))) from None
            sys.exit(1)
        except SignalException as error:
            raise (Terminated if error.sigval == signal.SIGTERM else KeyboardInterrupt) from None
        finally:
            del os.environ[CHILD]
    return True


def is_child() -> bool:
    """Whether this is one of the processes that `run_processes` starts."""
    return bool(os.environ.get(CHILD))


def is_first() -> bool:
    """Whether this process is alone, or the first of those that `run_processes` starts."""
    return not is_child() or os.environ.get("LOCAL_RANK", "0") == "0"


def report_to_parent(message: str) -> bool:
    """Leave a user's mistake for the process that started this one, which says it once; False: there is none."""
    folder = os.environ.get(CHILD)
    if not folder or not Path(folder).is_dir():
        return False
    Path(folder, f"{os.environ.get('LOCAL_RANK', '0'):>05}").write_text(message, encoding="utf-8")
    return True


def wait_to_be_ended() -> None:
    """In a process of several, leave the launcher time to end it.

    When one process fails, the others fail in turn as they cannot reach it, and their tracebacks say nothing.
    """
    if is_child():
        time.sleep(_END_BY_LAUNCHER_S)


def leave_process_group() -> None:
    """Leave the group of processes, if there is one: its threads abort a process that ends while they run."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def raise_terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    """Handle SIGTERM."""
    raise Terminated


def _end_with_parent() -> None:
    """Have Linux end this process when the one that started it is killed: it would train on beside a resumed run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:  # it was killed before
            sys.exit(1)
