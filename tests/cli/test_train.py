"""Train, eval and predict through the command line, on a dataset made by prepare-data."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import exit_code
from own_images import write_own_images
from PIL import Image

from cascade_clip.config.recipes import dump_toml, load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip_cli.train import resolve_recipe
from cascade_clip_cli.training_run import TrainingOptions, default_folder

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


@pytest.fixture
def source(tmp_path) -> Path:
    """Own images and index masks in a folder, two classes of grey."""
    rng = np.random.default_rng(0)

    def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
        label = np.zeros((64, 80), np.uint8)
        label[:, rng.integers(20, 60) :] = 1
        return (np.where(label[..., None] == 1, 200, 40) + rng.integers(-20, 20, (64, 80, 3))).astype(np.uint8), label

    return write_own_images(tmp_path / "source", [f"photo{number}" for number in range(6)], draw, "dark\nbright\n")


def test_the_whole_path(source: Path, tmp_path, tiny_recipe: Recipe, capsys, monkeypatch):
    """prepare -> train -> eval -> predict; results on stdout, JSON where asked, nothing that train did not promise."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(dump_toml(tiny_recipe))
    prepare = ["prepare-data", "folder", "--source", source, "--output", "prepared", "--val-fraction", "0.34"]
    assert exit_code(*prepare, "--quiet") == 0
    train = ["train", "--data", "prepared", "--recipe", "tiny.toml", "--output", "run", "--device", "cpu", "--quiet"]
    assert exit_code(*train, "--set", "train.iterations=2", "--set", "train.batch=2", "--json", "train.json") == 0
    trained = json.loads(Path("train.json").read_text())
    assert trained["model"] == "run/model"
    capsys.readouterr()
    assert exit_code("eval", "run/model", "--device", "cpu", "--quiet", "--json", "-") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["scores"]["miou"] == trained["scores"]["miou"]
    assert record["images"] == 2
    assert json.loads(Path("run/eval.json").read_text()) == record
    predict = ["predict", source / "images" / "photo0.png", "--model", "run/model", "--output", "out"]
    assert exit_code(*predict, "--classes", "dark|black,bright", "--device", "cpu") == 0
    assert {file.name for file in Path("out").iterdir()} == {"photo0.labels.png", "photo0.overlay.png", "photo0.json"}
    assert np.asarray(Image.open("out/photo0.labels.png")).shape == (64, 80)
    found = {entry["class"] for entry in json.loads(Path("out/photo0.json").read_text())["classes"]}
    assert found
    assert found <= {"dark", "bright"}
    printed = capsys.readouterr().out
    assert all(name in printed for name in found)


def test_the_recipe_follows_the_split():
    assert resolve_recipe(TrainingOptions(split="voc-seen")).name == "voc-cascade-zegclip"
    assert resolve_recipe(TrainingOptions()).data.split == "shapes-seen"
    own = resolve_recipe(TrainingOptions(overrides=["train.batch=2"], data="prepared/mine", seed=7))
    assert (own.name, own.data.split, own.train.batch, own.seed) == ("folder-cascade-zegclip", None, 2, 7)
    assert own.data.dataset == Path("prepared/mine").resolve()
    assert default_folder(own) == Path("runs/folder-cascade-zegclip-own-seed7")
    full = resolve_recipe(TrainingOptions(split="coco"))
    assert (full.name, full.data.split) == ("coco-cascade-zegclip", "coco")


def test_import_upstream(golden: Path, tmp_path, capsys):
    from safetensors.torch import load_file

    state = load_file(golden / "zegclip_tiny" / "weights.safetensors")
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "iter.pth")
    heads = [part for name in ("vision", "text", "decoder") for part in (f"--{name}-heads", 4)]
    output = ["--output", tmp_path / "out", "--split", "voc-seen"]
    assert exit_code("import-upstream", tmp_path / "iter.pth", *output, *heads) == 0
    printed = capsys.readouterr().out
    assert "stages [[12]], 5 prompt tokens" in printed
    assert "Left out 31 tensors that nothing reads (23,462 numbers)" in printed
    model = CascadeCLIP.from_pretrained(tmp_path / "out")
    assert model.split is not None
    assert model.split.name == "voc-seen"


def test_recipes(tmp_path, capsys, monkeypatch):
    assert exit_code("recipes") == 0
    printed = capsys.readouterr().out
    assert "coco/cascade-zegclip" in printed
    assert "41.1 / 43.4 / 42.2" in printed
    assert exit_code("recipes", "voc/cascade-zegclip", "--copy-to", tmp_path / "own.toml") == 0
    assert load_recipe(str(tmp_path / "own.toml")) == load_recipe("voc/cascade-zegclip")
    assert exit_code("recipes", "voc/zegclip", "--copy-to", tmp_path / "extending.toml") == 0
    assert load_recipe(str(tmp_path / "extending.toml")) == load_recipe("voc/zegclip")
    assert "coco-seen, scored on voc" in printed
    assert "table10" in printed
    monkeypatch.setenv("COLUMNS", "40")
    assert exit_code("recipes") == 0
    narrow = capsys.readouterr().out
    assert "…" not in narrow
    assert "  context/cascade-zegclip-self-training   56.4 / 55.0 / 55.7   20,000" in narrow
    assert exit_code("recipes", "voc/zegclip", "--copy-to", tmp_path / "own.toml") == 2
