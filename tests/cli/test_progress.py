"""What long work shows: on terminals of several widths, and where there is no terminal."""

import io
import json
import math
import re
import sys
import time
from collections.abc import Callable

import pytest
from tqdm import tqdm

from cascade_clip.config.schema import Recipe
from cascade_clip.reproduce.runs import Run
from cascade_clip.training.meter import TrainReport
from cascade_clip.training.run_folder import RunFolder
from cascade_clip_cli import console, progress
from cascade_clip_cli.console import stderr
from cascade_clip_cli.progress import TimeLeft, _Position, fitting, progress_bar
from cascade_clip_cli.training_run import training_progress

Draw = Callable[[int | None], io.StringIO]


@pytest.fixture
def drawn(monkeypatch) -> Draw:
    """Makes stderr a terminal of so many columns, or None, and returns what is written to it."""

    def draw(width: int | None) -> io.StringIO:
        written = io.StringIO()
        monkeypatch.setattr(stderr, "_file", written)
        monkeypatch.setattr(stderr, "_force_terminal", width is not None)
        monkeypatch.setattr(stderr, "_width", width)
        monkeypatch.setattr(stderr, "_height", 25)
        monkeypatch.setattr(stderr, "is_interactive", width is not None)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(stderr, "quiet", False)
        monkeypatch.setattr(stderr, "legacy_windows", False)
        return written

    return draw


def report(step: int, steps: int = 80_000, loss: float = 8.72345) -> TrainReport:
    return TrainReport(step, steps, loss, loss - 1, 1.0, "dice", 2e-4, 225.13, 12_345.0)


@pytest.mark.parametrize(("width", "shown"), [(200, "12,345 MiB"), (80, "225.1 images/s"), (60, "loss 8.723")])
def test_a_training_step_is_readable_on_a_terminal(drawn: Draw, width: int, shown: str):
    """Step, time left, loss and images/s at 80 columns; nothing is cut or wrapped."""
    written = drawn(width)
    with training_progress() as training:
        training.doing("loading CLIP")
        for step in (12_344, 12_345):
            training.watch(report(step))
    last = [line for line in written.getvalue().replace("\r", "\n").splitlines() if "12,345/80,000" in line][-1]
    assert shown in last
    assert "left  loss 8.723" in last
    assert "…" not in last


def test_lines_where_there_is_no_terminal(drawn: Draw, monkeypatch):
    """They come by the clock, say what a terminal would, and end with the last step."""
    monkeypatch.setattr(console, "FIRST_LINE_S", 0.05)
    monkeypatch.setattr(console, "LINES_EVERY_S", 0.1)
    written = drawn(None)
    with training_progress() as training:
        training.doing("loading CLIP ViT-B-16")
        time.sleep(0.1)
        training.watch(report(1))
        time.sleep(0.25)
        training.doing("validating, image 3 of 9")
        time.sleep(0.15)
        training.watch(report(80_000))
    lines = written.getvalue().splitlines()
    assert lines[0] == "train  loading CLIP ViT-B-16"
    assert [
        line for line in lines if re.match(r"train  1/80,000  \d:\d\d:\d\d left  loss 8\.723  225\.1 images/s", line)
    ]
    assert [line for line in lines if line.startswith("train  1/80,000  validating, image 3 of 9  ")]
    assert (
        lines[-1] == "train  80,000/80,000  loss 8.723  225.1 images/s  lr 2.0e-04  focal 7.723, dice 1.000  12,345 MiB"
    )
    assert len(lines) < 12


def test_short_work_says_nothing_where_there_is_no_terminal(drawn: Draw):
    written = drawn(None)
    with progress_bar("predict") as tell, stderr.doing("loading the model"):
        tell(1, 2, "a.jpg")
    assert not written.getvalue()


def test_other_processes_than_the_first_draw_nothing(drawn: Draw, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    written = drawn(80)
    with training_progress() as training:
        training.doing("loading CLIP")
        training.watch(report(1))
    assert not written.getvalue()


def test_the_time_left_is_known_from_the_first_item_on(monkeypatch):
    clock = [10.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    left = TimeLeft()
    assert left(0, 5) == ""
    clock[0] = 14.0
    assert left(1, 5) == "0:00:16 left"
    clock[0] = 16.0
    assert left(3, 5) == "0:00:02 left"
    assert left(5, 5) == "0:00:00 left"
    assert left(3, 0) == ""
    assert left(1, 5) == ""
    resumed, of_bytes = TimeLeft(), TimeLeft(begun=500)
    clock[0] = 18.0
    assert resumed(1001, 2001) == "0:33:20 left"
    assert of_bytes(500, 3000) == ""
    assert of_bytes(1000, 3000) == "0:00:08 left"


@pytest.mark.parametrize(
    ("width", "line"), [(99, "aaa  bbb  ccc"), (12, "aaa  bbb"), (8, "aaa  bbb"), (7, "aaa"), (2, "a…"), (0, "…")]
)
def test_as_many_facts_as_fit(width: int, line: str):
    assert fitting(["aaa", "", "bbb", "ccc"], width) == line
    assert math.isfinite(len(fitting([], width)))


@pytest.mark.parametrize("width", [80, None])
def test_the_bar_of_a_download_is_told(drawn: Draw, monkeypatch, width: int | None):
    """Bars of other libraries go where ours do, what else is written to stderr stays."""
    monkeypatch.setattr(console, "FIRST_LINE_S", 0.05)
    behind = io.StringIO()
    monkeypatch.setattr("sys.stderr", behind)
    written = drawn(width)
    with (
        stderr.doing("loading the model"),
        tqdm(total=600, desc="model.safetensors", disable=None, mininterval=0) as bar,
    ):
        bar.update(60)
        time.sleep(0.2)
        print("a warning", file=sys.stderr)  # noqa: T201
    assert "loading the model: model.safetensors:  10% 60/600" in written.getvalue()
    assert "a warning\n" in behind.getvalue() + written.getvalue()
    assert "safetensors" not in behind.getvalue()
    assert sys.stderr is behind


def test_steps_that_a_killed_run_had_logged_are_not_shown(squares_recipe: Recipe, tmp_path):
    run = Run("row, seed 0", tmp_path, "inductive", squares_recipe, None, "squares")
    log = RunFolder(tmp_path).metrics_file
    log.write_text(json.dumps({"step": 850, "loss": 1.0, "images_per_s": 9.0}) + "\n")
    position = _Position(run)
    assert position().facts == ()
    log.write_text(json.dumps({"step": 550, "loss": 2.0, "images_per_s": 9.0}) + "\n")
    assert position().facts[0].startswith("550/")
