"""Local processes of one command."""

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch import distributed

from cascade_clip_cli import console
from cascade_clip_cli.launch import CHILD as CHILD_VARIABLE
from cascade_clip_cli.main import main

CHILD = "import time; from cascade_clip_cli.launch import _end_with_parent; _end_with_parent(); print(1, flush=True)"
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1] + "; time.sleep(60)"], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the signal is Linux's")
def test_processes_end_when_the_one_that_started_them_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(100):
        time.sleep(0.05)
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
    pytest.fail(f"process {child} lives on")


def test_a_command_leaves_its_process_group(tmp_path):
    """Threads of a group that is still there abort the process at its end, after a correct result."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    for arguments in (["--version"], ["recipes", "no-such"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert not distributed.is_initialized()


def test_a_mistake_is_left_for_the_parent(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(CHILD_VARIABLE, str(tmp_path))
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("cascade_clip_cli.main._handle_signals", lambda: None)
    with pytest.raises(SystemExit) as left:
        main(["recipes", "no-such"])
    assert left.value.code == 2
    assert '"no-such"' in (tmp_path / "00001").read_text()
    assert capsys.readouterr().err == ""


@pytest.mark.slow  # it starts processes
def test_two_processes_say_their_mistake_once(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "cascade_clip_cli", "eval", tmp_path / "none", "--device", "cpu", "--nproc", "2"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'Error: "{tmp_path / "none"}" is no checkpoint folder: it does not exist. A model is ')


@pytest.mark.parametrize(
    ("rank", "quiet", "told"),
    [(None, False, ["INFO", "note", "WARNING", "doubt"]), ("0", True, ["WARNING", "doubt"]), ("1", False, [])],
)
def test_the_first_process_warns_also_those_who_want_no_progress(
    rank: str | None, quiet: bool, told: list[str], monkeypatch, capsys
):
    logger = logging.getLogger("cascade_clip")
    for name, value in (("handlers", []), ("level", logging.INFO), ("propagate", False)):
        monkeypatch.setattr(logger, name, value)
    monkeypatch.setattr(console.stderr, "quiet", quiet)
    if rank is not None:
        monkeypatch.setenv(CHILD_VARIABLE, "/tmp")
        monkeypatch.setenv("LOCAL_RANK", rank)
    console.start_output(quiet=False)
    logger.info("note")
    logger.warning("doubt")
    assert capsys.readouterr().err.split() == told
