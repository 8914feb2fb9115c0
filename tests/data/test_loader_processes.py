"""Loader processes fit the machine, outlive a signal to the whole job, and their loss is a sentence."""

import os
import signal
import sys
from collections import namedtuple

import pytest

from cascade_clip.data import loader_processes
from cascade_clip.data.loader_processes import explained_loss, prepare_process, processes_with_room
from cascade_clip.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems share memory otherwise")
MEBIBYTE = 2**20
Disk = namedtuple("Disk", "f_bavail f_frsize")


def _limit(monkeypatch: pytest.MonkeyPatch, *, shared: int = 2**40, files: tuple[int, int] = (10**6, 10**6)) -> list:
    """Fake the room in /dev/shm and the limit of open files; what the limit was set to."""
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "statvfs", lambda _path: Disk(shared // 4096, 4096))
    monkeypatch.setattr(loader_processes.resource, "getrlimit", lambda _kind: files)
    monkeypatch.setattr(loader_processes.resource, "setrlimit", lambda _kind, limits: raised.append(limits))
    loader_processes._warn.cache_clear()
    return raised


@pytest.mark.parametrize(
    ("shared_mib", "batch_mib", "world", "used"),
    [(64, 54, 1, 0), (64, 10, 1, 2), (64, 6, 1, 4), (64, 10, 2, 0), (400, 54, 1, 2), (4000, 54, 4, 4), (0, 1, 1, 0)],
)
def test_shared_memory(shared_mib: int, batch_mib: int, world: int, used: int, monkeypatch, caplog):
    """Two batches ahead in each process and the one that is trained on, with a tenth to spare."""
    _limit(monkeypatch, shared=shared_mib * MEBIBYTE)
    assert processes_with_room(4, batch_mib * MEBIBYTE, world) == used
    told = f"Loading with {used} processes instead of train.workers=4, as /dev/shm has room for" in caplog.text
    assert told == (used < 4)
    assert ("--shm-size" in caplog.text) == told


def test_few_file_handles(monkeypatch, caplog):
    """The limit is raised as far as it goes; then fewer processes are used, down to none."""
    raised = _limit(monkeypatch, files=(64, 4096))
    assert processes_with_room(8, 1) == 8
    assert 192 < raised[0][0] < 4096
    assert not caplog.text
    _limit(monkeypatch, files=(64, 64))
    assert processes_with_room(8, 1) == 0
    assert "only 64 files may be open at once: raise the limit (ulimit -n 4096)" in caplog.text


@pytest.mark.parametrize(
    "message",
    [
        "DataLoader worker (pid(s) 71, 72) exited unexpectedly",
        "DataLoader worker (pid 71) is killed by signal: Killed. ",
        "DataLoader worker (pid 71) is killed by signal: Bus error. It is possible that dataloader's workers are out of"
        " shared memory. Please try to raise your shared memory limit.",
    ],
)
def test_a_lost_process(message: str):
    told = r"A loader process of train\.workers was killed .*continue with --resume"
    with pytest.raises(UserError, match=told), explained_loss():
        raise RuntimeError(message)


def test_other_errors_stay():
    with pytest.raises(RuntimeError, match="shapes"), explained_loss():
        raise RuntimeError("shapes do not fit")


def test_signals_do_not_end_a_loader_process():
    """SIGTERM ends it, but not at once."""
    child = os.fork()
    if child == 0:
        prepare_process(0)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        os._exit(7 if signal.alarm(0) > 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize(("cores", "world", "expected"), [(1, 1, 1), (6, 1, 6), (64, 1, 8), (16, 4, 4), (2, 4, 1)])
def test_one_for_each_core_by_default(monkeypatch, cores: int, world: int, expected: int):
    monkeypatch.setattr(loader_processes, "usable_cores", lambda: cores)
    assert loader_processes.processes_by_default(world) == expected
