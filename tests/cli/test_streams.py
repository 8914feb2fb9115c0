"""What reaches stdout and stderr: results alone where they are wanted, names as they are, and never a traceback."""

import errno
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import exit_code
from PIL import Image

from cascade_clip_cli import main as program

NAMES = ("road [/old]", "[v2]", ":car:", "Straße", "木")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """An image with a name that is hard to print, and a small prepared dataset."""
    folder = tmp_path_factory.mktemp("streams")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "Straße [v2] :car:.png")
    assert exit_code("prepare-data", "shapes", "--train", 2, "--val", 2, "-q", "-o", folder / "data") == 0
    return folder


def _image(place: Path) -> Path:
    return next(place.glob("*.png"))


def _predict(place: Path, output: Path, *more: object) -> tuple[object, ...]:
    return "predict", _image(place), "-m", "bundled", "-c", ",".join(NAMES), "-o", output, *more


def test_names_are_printed_as_they_are(place: Path, tmp_path, capsys):
    output = tmp_path / "[/x]" / "r[v2]"
    assert exit_code(*_predict(place, output)) == 0
    printed = capsys.readouterr().out
    assert f"written to {output}" in printed
    assert "Straße [v2] :car:.png" in printed
    found = json.loads(next(output.glob("*.json")).read_text(encoding="utf-8"))["classes"]
    assert found
    assert all(entry["class"] in printed for entry in found)


COMMANDS_WITH_JSON: tuple[str, ...] = (
    "predict {image} -m bundled -c a,b -o {out} --gallery --explain",
    "eval bundled --data {data} -o {out}",
    "cka bundled --data {data} -o {out} --limit 2",
    "similarity {image} -o {out}",
    "prepare-data shapes --train 1 --val 1 --workers 1 -o {out}",
    "reproduce shapes --plan --data {data} -o {out}",
)


@pytest.mark.parametrize("command", COMMANDS_WITH_JSON)
def test_stdout_holds_the_json_alone(command: str, place: Path, tmp_path, capsys):
    words = {"{image}": _image(place), "{out}": tmp_path / "out", "{data}": place / "data"}
    arguments = [words.get(word, word) for word in command.split()]
    assert exit_code(*arguments, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)
    assert exit_code("recipes", "voc/zegclip") == 0
    assert capsys.readouterr().out, "stdout is open again"


def test_a_result_that_goes_to_a_device_does_not_replace_it(place: Path, tmp_path):
    if not Path(os.devnull).is_char_device():
        pytest.skip("another program has replaced the null device by a file")
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "target.json")
    (tmp_path / "target.json").write_text("{}")
    for target in (Path(os.devnull), link):
        assert exit_code("reproduce", "shapes", "--plan", "--data", place / "data", "--json", target) == 0
    assert not Path(os.devnull).is_file()
    assert link.is_symlink()
    assert json.loads((tmp_path / "target.json").read_text())["tables"]


def _narrow(monkeypatch: pytest.MonkeyPatch, encoding: str) -> Callable[[], str]:
    """Replace stdout and stderr by streams of an encoding; returns what was printed to the first."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])

    def printed() -> str:
        streams[0].flush()
        return streams[0].buffer.getvalue().decode(encoding)

    return printed


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_narrow_encodings(encoding: str, place: Path, tmp_path, monkeypatch):
    printed = _narrow(monkeypatch, encoding)
    for arguments in (_predict(place, tmp_path), ("--help",), ("predict", "--help"), ("recipes",)):
        assert exit_code(*arguments) == 0
    assert ("Stra\\xdfe" if encoding == "ascii" else "Straße") in printed()
    assert exit_code("recipes", "木") == 2
    printed = _narrow(monkeypatch, encoding)
    assert exit_code(*_predict(place, tmp_path, "--json", "-")) == 0
    predictions = json.loads(printed())["predictions"]
    assert predictions[0]["image"] == str(_image(place))
    assert {entry["class"] for entry in predictions[0]["classes"]} <= set(NAMES)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_a_name_that_is_no_unicode(place: Path, tmp_path, monkeypatch):
    image = tmp_path / os.fsdecode(b"bad\xff.png")
    image.write_bytes(_image(place).read_bytes())
    printed = _narrow(monkeypatch, "utf-8")
    assert exit_code("predict", image, "-m", "bundled", "-c", "a,b", "-o", tmp_path / "o", "--json", "-") == 0
    assert json.loads(printed())["predictions"][0]["image"] == str(image)
    assert exit_code("predict", image, "-m", "bundled", "-c", "a,b", "-o", tmp_path / "o") == 0


class _Pipe(io.StringIO):
    """A stream whose place takes nothing more."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, _text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["predict", "--help"], ["--version"], ["recipes"], ["recipes", "voc/zegclip"]]
)
def test_nobody_reads_stdout_any_more(arguments: list[str], monkeypatch):
    monkeypatch.setattr(sys, "stdout", _Pipe(errno.EPIPE))
    try:
        assert exit_code(*arguments) == 141
    finally:
        program.stdout.quiet = False


def test_stdout_is_full(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", _Pipe(errno.ENOSPC))
    assert exit_code("recipes") == 2
    assert "The output cannot be written: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_nobody_reads_stderr(number: int, monkeypatch):
    monkeypatch.setattr(sys, "stderr", _Pipe(number))
    try:
        assert exit_code("recipes", "nosuch") == 2
    finally:
        program.stderr.quiet = False


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_streams_that_were_closed(closed: str, monkeypatch):
    monkeypatch.setattr(sys, closed, None)
    assert exit_code("recipes", "voc/zegclip") == 0
    assert getattr(sys, closed) is not None
    assert exit_code("recipes", "nosuch") == 2
