"""The program as a whole: quick help, exit codes, one clear sentence instead of a traceback."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from command_line import exit_code

from cascade_clip_cli import main as program
from cascade_clip_cli.launch import Terminated
from cascade_clip_cli.main import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_help_opens_with_the_tables_sentence_and_ends_with_an_example(command: str, capsys):
    assert exit_code(command, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert COMMANDS[command] in text
    assert f"Example: cascade-clip {command}" in text


@pytest.mark.slow  # it starts processes
def test_help_costs_no_more_than_a_few_times_its_libraries():
    def seconds(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        return time.perf_counter() - start

    helped = "import sys; from cascade_clip_cli.main import main\ntry: main([{}'--help'])\nexcept SystemExit: pass\n"
    helped += "assert not {{'torch', 'open_clip', 'datasets', 'accelerate'}} & set(sys.modules)"
    for command in ("", "'predict', ", "'train', ", "'prepare-data', ", "'bench', "):
        pairs = [(seconds("import typer, rich.console"), seconds(helped.format(command))) for _ in range(3)]
        assert min(ours / libraries for libraries, ours in pairs) < 8


def test_version(capsys):
    assert exit_code("--version") == 0
    assert capsys.readouterr().out.startswith("cascade-clip ")


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left", "runs/x"), 2, '"runs/x": No space left. Free some space'),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, '"/x": Permission denied. You may not read'),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (KeyboardInterrupt("To continue: this"), 130, "To continue: this"),
        (Terminated(), 143, "Interrupted."),
        (MemoryError(), 2, "The memory is full: use smaller images"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "memory is full"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), 2, "The device's memory is full"),
    ],
)
def test_what_goes_wrong_outside(error: BaseException, code: int, message: str, capsys, monkeypatch):
    monkeypatch.setattr(program, "app", lambda _arguments: _raise(error))
    assert exit_code() == code
    assert message in capsys.readouterr().err


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(program, "app", lambda _arguments: _raise(ZeroDivisionError("defect")))
    with pytest.raises(ZeroDivisionError):
        main([])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_command_with_one_line(number: int, code: int, monkeypatch, capsys):
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(program, "load_command", lambda _name: os.kill(os.getpid(), number) or time.sleep(5))
    try:
        with pytest.raises(SystemExit) as left:
            main(["recipes"])
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    assert left.value.code == code
    assert capsys.readouterr().err.split() == ["Interrupted."]
