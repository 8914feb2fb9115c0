import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade_clip.analysis.layer_similarity import LayerSimilarity
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import split_for_dataset_folder
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip_cli.cka import cka, summary_table

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


@pytest.fixture(scope="module")
def run_folder(tiny_model: CascadeCLIP, squares_recipe: Recipe, squares: Path, tmp_path_factory) -> Path:
    """A run whose model says that it was trained on the squares."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    split = split_for_dataset_folder(squares)
    CascadeCLIP(tiny_model.network, tiny_model.clip, squares_recipe, split).save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(9):
        pixels = np.random.default_rng(seed).integers(0, 256, (70, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


def test_before_and_after_as_figure_csv_json_and_page(run_folder: Path, photos: Path, tmp_path, run_command):
    options = ["--against", "clip", "--images", photos, "-o", tmp_path / "out", "--tokens", "both", "--device", "cpu"]
    result = run_command(cka, run_folder, *options, "--report", tmp_path / "page")
    record = json.loads((tmp_path / "out" / "cka.json").read_text(encoding="utf-8"))
    assert (record["against"], record["images"], record["of"], record["size"]) == ("clip", 9, str(photos), 64)
    assert [(m["title"], m["tokens"]) for m in record["matrices"]] == [
        (title, tokens)
        for tokens in ("patch", "class")
        for title in ("CLIP, before training", f"{run_folder}, after training")
    ]
    values = list(csv.DictReader((tmp_path / "out" / "cka.csv").open(encoding="utf-8")))
    assert [float(line["cka"]) for line in values[:16]] == [v for row in record["matrices"][0]["matrix"] for v in row]
    assert Image.open(tmp_path / "out" / "cka.png").width > 1000
    assert result.stdout.count("144 patch tokens of 9 images, unbiased") == 2
    assert "cka.png" in result.stdout
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "Patch tokens" in page
    assert page.count("block 4") >= 1


def test_the_models_own_dataset_is_the_default(run_folder: Path, squares: Path, tmp_path, run_command):
    run_command(cka, run_folder, "-o", tmp_path, "--limit", "2", "--patches", "0")
    record = json.loads((tmp_path / "cka.json").read_text(encoding="utf-8"))
    assert (record["of"], record["images"], record["matrices"][0]["samples"]) == ("squares val", 2, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dense:bundled", "--against", "clip"], '"dense:bundled" is CLIP as it is: --against clip compares a trained'),
        (["bundled"], 'The prepared dataset "shapes" was not found'),
        (["dense:bundled"], 'The prepared dataset "shapes" was not found'),
        (["bundled", "--against", "runs/none/here"], '"runs/none/here" is no checkpoint folder: it does not exist'),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(arguments, message, tmp_path, refusal, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(cka, *arguments, "-o", tmp_path / "out", "--device", "cpu")
    assert not (tmp_path / "out").exists()


def test_the_summary_names_what_the_paper_marks():
    blocks, values = ("block 1", "block 2"), np.array([[0, 1 / 3], [2 / 3, 1]])
    table = summary_table([LayerSimilarity("m", "m", "m", blocks, blocks, "patch", "exact", 4, 64, values)])
    assert [list(column.cells) for column in table.columns[2:]] == [["0.67"], ["0.67"]]
