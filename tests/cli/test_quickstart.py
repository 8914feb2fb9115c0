"""The README's main command, at the smallest size."""

import json
import shlex
from pathlib import Path

import pytest
from command_line import exit_code
from PIL import Image
from quick_runs import CliCommands

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser

SMALLEST = ["--steps", "1", "--train", "8", "--val", "3", "--device", "cpu", "--quiet"]


def test_draws_trains_compares_and_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # In this process and one after the other, which saves starting three.
    monkeypatch.setattr("cascade_clip.reproduce.runner.Commands", CliCommands)
    monkeypatch.setattr("cascade_clip.runtime.usable_cores", lambda: 1)
    assert exit_code("quickstart", *SMALLEST) == 0
    printed = capsys.readouterr().out
    for word in ("ZegCLIP", "Cascade-CLIP", "training-free", "unseen mIoU", "hIoU", "quickstart/predictions.png"):
        assert word in printed
    assert Image.open("quickstart/predictions.png").size > (800, 800)
    scenes = sorted(Path("quickstart/scenes").iterdir())
    assert [Image.open(scene).format for scene in scenes] == ["JPEG"] * 3
    command = shlex.split(printed.splitlines()[-1])
    assert command[:2] == ["cascade-clip", "predict"]
    assert exit_code(*command[1:]) == 0
    assert "3 of 3 written to quickstart/predictions" in capsys.readouterr().out
    for run in ("zegclip", "cascade-clip"):
        lines = Path("quickstart", run, "metrics.jsonl").read_text().splitlines()
        assert any("validation" in json.loads(line) for line in lines)
    assert exit_code("quickstart", *SMALLEST) == 0  # a second start finds everything done
    assert "Cascade-CLIP" in capsys.readouterr().out
    assert exit_code("quickstart", *SMALLEST, "--seed", "1") == 2
    assert '"quickstart/shapes" holds scenes of another --train, --val or --seed' in capsys.readouterr().err
    assert exit_code("quickstart", *SMALLEST, "--steps", "2") == 2
    assert "holds a run with other settings" in capsys.readouterr().err
