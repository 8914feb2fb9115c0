"""`cascade-clip bench` as it is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import exit_code

from cascade_clip.checkpoint.folder import checkpoint_folder
from cascade_clip_cli.bench import bench

SMALL = ("--checkpoint", "bundled", "--size", "64x64", "--repeats", "2", "--threads", "1", "--device", "cpu")


def _bundled_classes() -> list[str]:
    config = json.loads((checkpoint_folder("bundled") / "config.json").read_text(encoding="utf-8"))
    return [entry["name"] for entry in config["split"]["classes"]]


def test_measures_writes_and_compares(tmp_path: Path, run_command) -> None:
    first = tmp_path / "first.json"
    result = run_command(bench, "predict", *SMALL, "--no-memory", "--plain", "--json", first)
    assert result.exit_code == 0, result.exception
    record = json.loads(first.read_text())
    assert list(record["subjects"]) == ["bare tower", "label map", "label map, plain"]
    assert record["facts"]["classes"] == len(_bundled_classes())
    assert "where the time goes" in result.stdout
    assert re.search(r"\d\.\d M parameters, \d\.\d M of which train\.", result.stdout)
    again = run_command(
        bench, "predict", *SMALL, "--no-memory", "--classes", 5, "--against", first, "--output", tmp_path
    )
    assert again.exit_code == 0, again.exception
    assert "Not only the code differs: classes None -> 5." in again.stdout
    assert json.loads((tmp_path / "bench-predict.json").read_text())["facts"]["classes"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dance",), 'There is no "dance" to measure.'),
        (
            ("predict", "--size", "big"),
            '--size is HEIGHTxWIDTH in pixels, for example 480x640, each at most 4096; got "big".',
        ),
        (("train", "--images", "3"), "bench train has no --images"),
        (("prepare", "--compile"), "bench prepare runs no network"),
        (("train", "--plain"), "bench train has no --plain"),
        (("predict", "--against", "nowhere.json"), 'There is no file "nowhere.json" for --against'),
        (("predict", "--checkpoint", "bundled", "--recipe", "voc/zegclip"), "A checkpoint brings its own recipe"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("bench", *arguments) == 2
    assert message in capsys.readouterr().err


def test_another_kind_is_refused_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = tmp_path / "train.json"
    earlier.write_text(json.dumps({"settings": {"kind": "train"}, "subjects": {}, "reference": "bare tower"}))
    assert exit_code("bench", "prepare", "--against", earlier) == 2
    captured = capsys.readouterr()
    assert "The earlier result is of `bench train`" in captured.err
    assert captured.out == ""
