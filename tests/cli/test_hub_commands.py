"""Datasets in other layouts through the command line: prepared, or read directly while training and scoring."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import exit_code
from PIL import Image

from cascade_clip.config.recipes import dump_toml
from cascade_clip.config.schema import Recipe

pytestmark = pytest.mark.usefixtures("own_datasets_cache")


@pytest.fixture
def imagefolder(tmp_path) -> Path:
    """Four training pairs and two for validation, of two classes of grey."""
    folder = tmp_path / "street"
    for split, count in (("train", 4), ("validation", 2)):
        lines = []
        (folder / split).mkdir(parents=True)
        for index in range(count):
            label = np.zeros((64, 80), np.uint8)
            label[:, 20 + 10 * index :] = 1
            Image.fromarray((40 + 160 * label).astype(np.uint8)).convert("RGB").save(folder / split / f"i{index}.png")
            Image.fromarray(label).save(folder / split / f"m{index}.png")
            lines.append(json.dumps({"image_file_name": f"i{index}.png", "mask_file_name": f"m{index}.png"}))
        (folder / split / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "classes.txt").write_text("dark\nbright\n")
    return folder


@pytest.mark.parametrize("stream", [False, True])
def test_trained_and_scored_as_it_lies(imagefolder: Path, tmp_path, tiny_recipe: Recipe, capsys, stream: bool):
    (tmp_path / "tiny.toml").write_text(dump_toml(tiny_recipe))
    streamed = ["--stream"] if stream else []
    run = ["--recipe", tmp_path / "tiny.toml", "--data", imagefolder, "--output", tmp_path / "run", "--quiet"]
    short = ["--set", "train.iterations=2", "--set", "train.batch=2", "--device", "cpu"]
    assert exit_code("train", *run, *short, *streamed) == 0
    capsys.readouterr()
    scored = ["--device", "cpu", "--quiet", "--json", "-"]
    assert exit_code("eval", tmp_path / "run" / "model", "--data", imagefolder, *streamed, *scored) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 2
    assert [entry["class"] for entry in result["scores"]["classes"]] == ["dark", "bright"]


def test_uploaded_after_preparing(imagefolder: Path, tmp_path, monkeypatch):
    asked: list[tuple[Path, str, bool, bool]] = []

    def upload(folder: Path, repo_id: str, *, private: bool, rights_checked: bool) -> str:
        asked.append((folder, repo_id, private, rights_checked))
        return f"https://huggingface.co/datasets/{repo_id}"

    monkeypatch.setattr("cascade_clip.preparation.push.push_dataset", upload)
    output = tmp_path / "out"
    options = ["--push-to-hub", "me/street", "--private", "--workers", 1, "--quiet"]
    assert exit_code("prepare-data", "hub", "--source", imagefolder, "--output", output, *options) == 0
    assert asked == [(output, "me/street", True, False)]
