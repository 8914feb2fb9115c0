"""`cascade-clip bench` as it is typed."""

import json
import re

import pytest

from cascade_clip.checkpoint.folder import checkpoint_folder
from cascade_clip_cli.bench import bench

SMALL = ("--model", "bundled", "--size", "64x64", "--repeats", "2", "--threads", "1", "--device", "cpu")


def _bundled_classes() -> list[str]:
    config = json.loads((checkpoint_folder("bundled") / "config.json").read_text(encoding="utf-8"))
    return [entry["name"] for entry in config["split"]["classes"]]


@pytest.mark.slow  # it trains
def test_measures_writes_and_compares(tmp_path, run_command):
    first = tmp_path / "first.json"
    result = run_command(bench, "predict", *SMALL, "--no-memory", "--plain", "--json", first)
    record = json.loads(first.read_text())
    assert list(record["subjects"]) == ["bare tower", "label map", "label map, plain"]
    assert record["facts"]["classes"] == len(_bundled_classes())
    assert re.search(r"\d\.\d M parameters, \d\.\d M of which train\.", result.stdout)
    again = run_command(
        bench, "predict", *SMALL, "--no-memory", "--classes", 5, "--against", first, "--output", tmp_path
    )
    assert "Not only the code differs: classes None -> 5." in again.stdout
    assert json.loads((tmp_path / "bench-predict.json").read_text())["facts"]["classes"] == 5
