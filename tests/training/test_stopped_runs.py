"""A run that is stopped at a write, or finds the disk full there, and is continued is the uninterrupted one.

Every file is compared but the curves, which show speeds; of the log, speeds are left out. By hand at every write, in
the suite at some: `STOP_AT_EVERY=1 pytest tests/training/test_stopped_runs.py`.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashes import KILLED, Ended, ForkedCommands, Stop, tree
from tiny_data import CLASSES
from trained_runs import changed

from cascade_clip.config.recipes import dump_toml
from cascade_clip.config.schema import Recipe

pytestmark = pytest.mark.slow  # it starts processes that train
EVERY = int(os.environ.get("STOP_AT_EVERY", "0"))


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> Iterator[ForkedCommands]:
    with ForkedCommands() as forked:
        call = ["call", "cascade_clip.training.run_training:find_benchmark", "squares"]
        forked.warm_up(call, tmp_path_factory.mktemp("w"))
        yield forked


@pytest.fixture(scope="module")
def recipe_file(squares_recipe: Recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    names = ", ".join(f'{{ name = "{name}" }}' for name in CLASSES)
    (folder / "red.toml").write_text(f'dataset = "squares"\nclasses = [{names}]\n[splits.red]\nunseen = ["blue"]\n')
    recipe = changed(squares_recipe, iterations=2, batch=2, save_every=1, validate_every=1, log_every=2, pictures=1)
    (folder / "recipe.toml").write_text(dump_toml(recipe.changed(data={"split": str(folder / "red.toml")})))
    return folder / "recipe.toml"


class StoppedRuns:
    """Runs a command whole, then stopped, then to its end."""

    def __init__(self, commands: ForkedCommands, command: list[object], place: Path, before: Path | None) -> None:
        """`before`: a run that lies in the folder and is replaced."""
        self.commands = commands
        self.command = [*command, "--output", "run", "--device", "cpu", "--quiet"]
        self.place = place
        self.before = before
        self.whole = self._run("whole")
        assert self.whole.code == 0, self.whole.output
        self.expected = tree(place / "whole", _lasting)

    def _run(self, name: str, stop: Stop | None = None, file_bytes: int | None = None) -> Ended:
        folder = self.place / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        if self.before is not None:
            shutil.copytree(self.before, folder / "run")
            (folder / "run" / "track").mkdir()
            (folder / "run" / "track" / "events.1").touch()
        return self.commands.run(self.command, watched=folder, stop=stop, file_bytes=file_bytes)

    def stopped(self, stop: Stop | None = None, file_bytes: int | None = None) -> Ended:
        """Stop the command, continue, and compare; what the stopped one said."""
        stopped = self._run("stopped", stop, file_bytes)
        folder = self.place / "stopped"
        if stop is None or stop.how == "full":
            assert not list(folder.rglob(".*")), "something half-written is left"
        again = self.command
        if self.before is None and (folder / "run" / "recipe.toml").exists():
            again = [str(self.command[0]), "--resume", *self.command[-5:]]
        done = self.commands.run(again, watched=folder)
        assert done.code == 0, done.output
        assert tree(folder, _lasting) == self.expected, f"{stop} at {self.whole.events[stop.event - 1] if stop else ''}"
        return stopped


def _lasting(name: str, content: bytes) -> bytes:
    if name.endswith("curves.png"):
        return b""
    if not name.endswith("metrics.jsonl"):
        return content
    lines = [json.loads(line) for line in content.splitlines()]
    return json.dumps([{**line, "images_per_s": None} for line in lines]).encode()


def _some(stops: list[Stop], every: int) -> list[Stop]:
    """Every so many of the stops, from the middle of the first so many on."""
    every = EVERY or every
    return stops[every // 2 :: every]


def test_a_kill_at_a_write(commands: ForkedCommands, recipe_file: Path, tmp_path):
    runs = StoppedRuns(commands, ["train", "--recipe", recipe_file], tmp_path, None)
    validations = [json.loads(line) for line in (tmp_path / "whole/run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in validations if "validation" in line] == [1, 2]
    for stop in _some(runs.whole.stops(), 40):
        assert runs.stopped(stop).code == KILLED


def test_a_kill_as_a_run_is_replaced_or_trained_on(commands: ForkedCommands, recipe_file: Path, tmp_path):
    (tmp_path / "first").mkdir()
    first = StoppedRuns(commands, ["train", "--recipe", recipe_file], tmp_path / "first", None)
    assert first.whole.code == 0
    old = tmp_path / "first" / "whole" / "run"
    for name, command, before in (
        ("replaced", ["train", "--recipe", recipe_file, "--set", "seed=1", "--overwrite"], old),
        ("self-trained", ["self-train", "--init", old / "model-half", "--set", "train.iterations=2"], None),
    ):
        (tmp_path / name).mkdir()
        runs = StoppedRuns(commands, command, tmp_path / name, before)
        assert not (tmp_path / name / "whole" / "run" / "track").exists()
        for stop in _some(runs.whole.stops(), 100):
            assert runs.stopped(stop).code == KILLED


def test_a_full_disk(commands: ForkedCommands, recipe_file: Path, tmp_path):
    runs = StoppedRuns(commands, ["train", "--recipe", recipe_file], tmp_path, None)
    for stop in _some(runs.whole.full_disks(), 40):
        ended = runs.stopped(stop)
        if ended.code:  # but for pictures, without which training goes on
            assert ended.code == 2
            assert re.search("The disk is full: |No space left on device", ended.output)
            assert re.search("Free some space|Choose another folder", ended.output)
    ended = runs.stopped(file_bytes=40_000)  # less than the weights have
    assert (ended.code, ended.output.count("Error:"), ended.output.count("Traceback")) == (2, 1, 0), ended.output
