"""`predict` and `eval` with training-free models: background, refinement, what is printed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade_clip_cli.main import with_background
from cascade_clip_cli.predict import predict

MODEL = "dense:bundled?method=naclip"


@pytest.fixture
def photo(tmp_path, monkeypatch) -> Path:
    """Grass on the left, water on the right, as the bundled CLIP may see them."""
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).integers(0, 60, (64, 96, 3), dtype=np.uint8)
    image[:, :48, 1] += 120
    image[:, 48:, 2] += 150
    Image.fromarray(image).save("photo.png")
    return tmp_path / "photo.png"


def test_a_single_class_does_not_paint_the_whole_picture(photo: Path, run_command):
    common = (predict, photo, "-m", MODEL, "-c", "grass", "--json", "-")
    records = {}
    for name, options in {"default": [], "off": ["--no-background"], "own": ["--background", "water, lava"]}.items():
        records[name] = json.loads(run_command(*common, *options).stdout)
    assert len(records["default"]["background"]) == 11
    assert records["off"]["background"] == []
    assert records["own"]["background"] == ["water", "lava"]
    shares = {name: sum(c["share"] for c in record["predictions"][0]["classes"]) for name, record in records.items()}
    assert shares["off"] == 1
    assert shares["default"] < 1
    assert records["default"]["method"] == "NACLIP"


def test_what_is_printed_names_method_and_background(photo: Path, run_command):
    printed = run_command(predict, photo, "-m", MODEL, "-c", "grass", "--refine").stdout
    assert f"NACLIP with PAMR (training-free, {MODEL}); pixels that fit a background word best (sand, water" in printed
    printed = run_command(predict, photo, "-m", MODEL, "-c", "grass,water").stdout
    assert f"NACLIP (training-free, {MODEL})\n" in printed


def test_a_threshold_means_the_same_for_one_class_and_for_many(photo: Path, run_command):
    scores = {}
    for classes in ("grass", "grass,red circle,yellow star,lava,snow"):
        run_command(predict, photo, "-m", MODEL, "-c", classes, "--no-background", "-o", classes[:8])
        record = json.loads((Path(classes[:8]) / "photo.json").read_text("utf-8"))
        labels = np.array(Image.open(Path(classes[:8]) / "photo.labels.png"))
        scores[classes] = (labels == 0, record["classes"])
    limited = {}
    for classes in scores:
        run_command(predict, photo, "-m", MODEL, "-c", classes, "--no-background", "--threshold", 0.5, "-o", "limited")
        limited[classes] = np.array(Image.open("limited/photo.labels.png")) == 0
    (_, _), (won, _) = scores.values()
    one, many = limited.values()
    assert 0 < one.sum() < one.size
    assert np.array_equal(one & won, many)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", MODEL, "--background", "sky", "--no-background"], "contradict each other"),
        (["-m", MODEL, "--background", "grass"], '"grass" is both a class and a background word'),
        (["-m", MODEL, "--background", "sky,,wall"], "The background has an empty word"),
        (["-m", MODEL, "--background", "photo.png"], 'took "photo.png", a file, for its words'),
        (["-m", "runs/mine", "--background", "sky"], '"runs/mine" is trained: give --threshold'),
        (["-m", "bundled", "--refine"], "Refining is for training-free models: this one is trained"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(photo: Path, options: list[str], message: str, refusal):
    assert message in refusal(predict, photo, "-c", "grass", *options)
    assert not Path("predictions").exists()


@pytest.mark.parametrize(
    ("given", "completed"),
    [("a --background", "a --background default"), ("--background -c cat", "--background default -c cat")],
)
def test_background_may_stand_without_words(given: str, completed: str):
    assert with_background(given.split()) == completed.split()
    assert with_background(["--background", "sky", "-q"]) == ["--background", "sky", "-q"]
