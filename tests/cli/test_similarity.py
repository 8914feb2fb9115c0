import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from typer.testing import Result

from cascade_clip import segmenter
from cascade_clip.data.catalogue import ClassEntry, Split
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip_cli.predict import predict
from cascade_clip_cli.similarity import similarity

NAMES = ("road", "tree", "sky")
SPLIT = Split("three", "three", tuple(ClassEntry(name, name, (i, 0, 0)) for i, name in enumerate(NAMES)), frozenset())


@pytest.fixture
def run(tiny_model: CascadeCLIP, tmp_path, monkeypatch, run_command: Callable[..., Result]) -> Callable[..., Result]:
    """Run a command on photo.png, 110 x 70 pixels; every model is the tiny one."""
    monkeypatch.chdir(tmp_path)
    # Commands release the text tower of a model that other tests share.
    tiny_model = copy.copy(tiny_model)
    tiny_model.split = SPLIT
    monkeypatch.setattr(segmenter.CascadeCLIP, "from_pretrained", lambda name, **_: tiny_model)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 110, 3), dtype=np.uint8)).save("photo.png")
    label = np.full((70, 110), 255, np.uint8)
    label[20:60, 60:100] = 1
    Image.fromarray(label).save("label.png")
    return run_command


def test_a_grid_and_the_values_for_clip_and_the_model(run: Callable[..., Result]):
    result = run(similarity, "photo.png", "--fraction", "0.9,0", "--json", "result.json")
    assert sorted(path.name for path in Path("similarity").iterdir()) == [
        "photo.similarity.json",
        "photo.similarity.png",
    ]
    record = json.loads(Path("similarity/photo.similarity.json").read_text(encoding="utf-8"))
    assert record["point"] == [99, 0]
    assert [model["model"] for model in record["models"]] == ["CLIP (clip.json)", "bundled"]
    for model in record["models"]:
        assert [block["block"] for block in model["blocks"]] == [1, 2, 3, 4]
        assert model["blocks"][0]["cosine"][0][5] == pytest.approx(1)
        assert np.shape(model["blocks"][3]["cosine"]) == (4, 6)
    assert record["models"][0]["blocks"][3]["mean"] != record["models"][1]["blocks"][3]["mean"]
    whole = json.loads(Path("result.json").read_text(encoding="utf-8"))
    assert whole["files"] == {"picture": str(Path("similarity") / "photo.similarity.png")}
    assert "mean cosine similarity to the patch at 99,0" in result.stdout


def test_the_centre_of_a_labelled_class(run: Callable[..., Result]):
    result = run(similarity, "photo.png", "--class", "tree", "--label", "label.png", "--json", "-")
    record = json.loads(result.stdout)
    assert record["point"] == [80, 40]
    assert record["class"] == "tree"
    block = record["models"][0]["blocks"][0]
    assert -1 <= block["outside"] <= 1
    assert block["inside"] != block["outside"]


def test_a_label_is_turned_as_its_image_is(run: Callable[..., Result]):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored a quarter turn to the left of how it is shown
    for name in ("photo", "label"):
        stored = Image.open(f"{name}.png").transpose(Image.Transpose.ROTATE_90)
        stored.save(f"stored-{name}.png", **({"exif": exif} if name == "photo" else {}))
    result = run(similarity, "stored-photo.png", "--class", "tree", "--label", "stored-label.png", "--json", "-")
    assert json.loads(result.stdout)["point"] == [80, 40]


def test_the_centre_of_a_predicted_class(run: Callable[..., Result], tiny_model: CascadeCLIP):
    found = tiny_model.segment("photo.png", split=SPLIT)[0]
    largest = found.summary()[0]
    record = json.loads(run(similarity, "photo.png", "--class", largest.name, "--json", "-").stdout)
    x, y = record["point"]
    assert found.labels[y, x] == largest.index


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class", "tre"], '"tre" of --class is none of the classes. Did you mean "tree"?'),
        (
            ["--class", "sky", "--label", "label.png"],
            'The mask of --label holds no "sky" in the image. Known: tree. Or give --point',
        ),
    ],
)
def test_mistakes_are_said_in_a_sentence_and_nothing_is_written(
    run: Callable[..., Result], refusal, arguments: list[str], message: str
):
    assert message in refusal(similarity, "photo.png", *arguments)
    assert not Path("similarity").exists()


def test_predict_explains_the_largest_or_the_named_classes(run: Callable[..., Result]):
    run(predict, "photo.png", "-m", "ckpt", "--explain", "--json", "one.json")
    record = json.loads(Path("one.json").read_text(encoding="utf-8"))["predictions"][0]
    assert record["files"]["explanation"] == str(Path("predictions") / "photo.explain.png")
    found = Image.open("predictions/photo.explain.png").size
    run(predict, "photo.png", "-m", "ckpt", "--explain-classes", "sky,road,tree", "-o", "named")
    named = Image.open("named/photo.explain.png").size
    assert named[0] == found[0]
    assert named[1] >= found[1]
    run(predict, "photo.png", "-m", "ckpt", "-o", "named")
    assert not Path("named/photo.explain.png").exists(), "an earlier explanation goes"


def test_a_model_without_stages_cannot_be_explained(run: Callable[..., Result], colour_model, refusal):
    assert '"dense:x" has no stages to explain' in refusal(predict, "photo.png", "-m", "dense:x", "--explain")
    assert not Path("predictions").exists()
