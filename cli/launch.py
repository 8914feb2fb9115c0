"""Several local processes: torch's elastic launch of the same command line."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import signal
import sys
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory

from cascade_clip.errors import UserError

CHILD = "CASCADE_CLIP_PROCESS"
"""Environment variable of the processes that `run_processes` starts: the folder for their users' mistakes."""
PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: the signal that a process gets when its parent ends."""


def run_processes(processes: int, device: str) -> bool:
    """Run this very command line in several local processes and wait for them.

    Parent and child are told apart by an environment variable of this toolkit: accelerate's launchers do not always set
    the usual ones.

    Args:
        processes: How many.
        device: What --device says; CUDA gives each process a device of its own.

    Returns:
        True in the parent, when all are done; False in each of them.

    Raises:
        UserError: More processes than CUDA devices, or the mistake of the user that ended a process.
        SystemExit: A process failed by a defect of ours, which it has reported.
    """
    if os.environ.get(CHILD):
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
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=uuid.uuid4().hex,
        max_restarts=0,
    )
    with TemporaryDirectory() as mistakes:
        os.environ[CHILD] = mistakes
        try:
            elastic_launch(config, sys.executable)("-m", "cascade_clip_cli", *sys.argv[1:])
        except ChildFailedError as error:
            told = [file.read_text(encoding="utf-8") for file in sorted(Path(mistakes).iterdir())]
            if told:
                raise UserError("\n".join(told)) from error
            sys.exit(1)
        except SignalException as error:
            raise KeyboardInterrupt from error
        finally:
            del os.environ[CHILD]
    return True


def leave_to_parent(message: str) -> bool:
    """Let the process that started several tell the user's mistake, which they would say once each.

    Returns:
        False where this process was not started so, and tells it itself.
    """
    folder = os.environ.get(CHILD)
    if folder is None or not Path(folder).is_dir():
        return False
    content = message.encode("utf-8", errors="backslashreplace")
    (Path(folder) / hashlib.sha256(content).hexdigest()).write_bytes(content)
    return True


def _end_with_parent() -> None:
    """Have Linux end this process when the one that started it is killed: it would train on beside a resumed run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:  # it was killed before
            sys.exit(1)
