import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import Split
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip_cli import console
from cascade_clip_cli.evaluate import evaluate

PAINT = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


def draw(sample: ImageSource) -> tuple[bytes, np.ndarray]:
    """Each image is of one class, but its rightmost eighth is painted as the next class."""
    seed = sample.payload
    label = np.full((40, 64), seed % 3, np.uint8)
    painted = label.copy()
    painted[:, 56:] = (seed + 1) % 3
    encoded = io.BytesIO()
    Image.fromarray(PAINT[painted]).save(encoded, "PNG")
    return encoded.getvalue(), label


@pytest.fixture(scope="session")
def rgb_data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "rgb"
    samples = [ImageSource(f"image-{seed}", seed) for seed in range(6)]
    write_prepared(folder, name="rgb", classes=["red", "green", "blue"], parts={"train": [], "val": samples}, load=draw)
    return folder


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    (tmp_path / "run" / "model").mkdir(parents=True)
    return tmp_path / "run" / "model"


def test_scores_stand_on_stdout_and_in_the_record_beside_the_checkpoint(
    rgb_data: Path, checkpoint: Path, colour_model, run_command
):
    result = run_command(evaluate, checkpoint, "--data", rgb_data, "--device", "cpu")
    record = json.loads((checkpoint.parent / "eval.json").read_text(encoding="utf-8"))
    scores = record["scores"]
    assert (record["split"], record["dataset"], record["images"]) == ("rgb-seen", "rgb", 6)
    assert scores["pixel_accuracy"] == pytest.approx(7 / 8, abs=0.03)
    assert scores["miou_seen"] == pytest.approx(7 / 9, abs=0.05)
    assert scores["hiou"] == pytest.approx(
        2 * scores["miou_seen"] * scores["miou_unseen"] / (scores["miou_seen"] + scores["miou_unseen"])
    )
    assert sum(entry["labelled_pixels"] for entry in scores["classes"]) == 6 * 40 * 64
    here = next(line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["here"])
    assert here[1:4] == [f"{100 * scores[name]:.2f}" for name in ("miou_seen", "miou_unseen", "hiou")]
    assert "unseen" in next(line for line in result.stdout.splitlines() if line.strip().startswith("blue"))
    assert result.stdout.splitlines()[-1] == f"Written: {checkpoint.parent / 'eval.json'}"


def test_windows_of_the_options_are_used_and_recorded(rgb_data: Path, checkpoint: Path, colour_model, run_command):
    options = ["--crop", 16, "--stride", 12, "--bias", 0.9, "--flip", "--limit", 3, "-o", checkpoint.parent / "x"]
    result = run_command(evaluate, checkpoint, "--data", rgb_data, *options)
    record = json.loads((checkpoint.parent / "x" / "eval.json").read_text(encoding="utf-8"))
    assert record["inference"] == {"crop": 16, "stride": 12, "seen_bias": 0.9, "flip": True, "window_batch": 4}
    assert (record["images"], record["images_of_the_set"]) == (3, 6)
    assert record["scores"]["miou_seen"] < 0.2  # the bias of 0.9 hands everything to the unseen class
    assert "3 of 6 images" in result.stdout
    assert not (checkpoint.parent / "eval.json").exists()


def test_the_papers_figure_stands_beside_ours_on_the_recipes_split(
    rgb_data: Path, checkpoint: Path, colour_model, run_command
):
    split = colour_model.split
    colour_model.split = Split("coco-seen", split.dataset, split.classes, split.unseen)
    result = run_command(evaluate, checkpoint, "--data", rgb_data)
    paper = next(line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["paper"])
    assert paper[1:4] == ["41.1", "43.4", "42.2"]


def test_without_a_split_the_classes_of_the_dataset_count(
    rgb_data: Path, checkpoint: Path, colour_model, run_command, refusal
):
    colour_model.split = None
    result = run_command(evaluate, checkpoint, "--data", rgb_data)
    record = json.loads((checkpoint.parent / "eval.json").read_text(encoding="utf-8"))
    assert record["scores"]["miou_unseen"] is None
    assert "unseen" not in result.stdout
    assert "give --split NAME or --data FOLDER" in refusal(evaluate, checkpoint)


def test_classes_of_another_dataset(rgb_data: Path, checkpoint: Path, colour_model, refusal):
    told = refusal(evaluate, checkpoint, "--data", rgb_data, "--split", "voc-seen")
    assert "it has 3 classes, the split 20" in told


@pytest.mark.parametrize("option", ["--pictures", "--report", "--output"])
def test_nothing_is_written_into_what_is_read(rgb_data: Path, checkpoint: Path, monkeypatch, refusal, option: str):
    monkeypatch.setattr("cascade_clip_cli.evaluate.load_model", pytest.fail)  # it is told before
    for folder, verb in ((rgb_data, "is"), (rgb_data / "new", "lies in"), (checkpoint, "is")):
        told = refusal(evaluate, checkpoint, "--data", rgb_data, option, folder)
        assert told.startswith(f'"{folder}" {verb} "')
        assert told.endswith("which is read: choose another folder.")
    assert not (rgb_data / "new").exists()
    assert not list(checkpoint.iterdir())


def test_pictures_of_examples_classes_and_confusion(rgb_data: Path, checkpoint: Path, colour_model, run_command):
    folder = checkpoint.parent / "pictures"
    folder.mkdir()
    (folder / "best-9.jpg").touch()  # of an earlier evaluation, as its table tells
    (folder / "images.csv").write_text("index,id,miou,pixel_accuracy\n", encoding="utf-8")
    (folder / "best-mine.jpg").touch()
    result = run_command(evaluate, checkpoint, "--data", rgb_data, "--pictures", folder)
    assert f"Written: {folder}" in result.stdout
    examples = [f"{group}-{number}.jpg" for group in ("best", "median", "worst") for number in (1, 2)]
    expected = {*examples, "confusion.png", "classes.png", "images.csv", "best-mine.jpg"}
    assert {file.name for file in folder.iterdir()} == expected
    assert all(Image.open(folder / name).width > 1000 for name in examples)
    rows = (folder / "images.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "index,id,miou,pixel_accuracy"
    assert [row.split(",")[:2] for row in rows[1:]] == [[str(i), f"image-{i}"] for i in range(6)]
    assert all(float(row.split(",")[3]) == pytest.approx(7 / 8, abs=0.04) for row in rows[1:])


def test_the_page_is_given_everything(rgb_data: Path, checkpoint: Path, colour_model, run_command, monkeypatch):
    pages = []
    monkeypatch.setattr(
        "cascade_clip.report.evaluation_page.write_evaluation_report", lambda folder, page: pages.append(page) or folder
    )
    (checkpoint.parent / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    run_command(evaluate, checkpoint, "--data", rgb_data, "--report", checkpoint.parent / "page")
    (page,) = pages
    assert page.title == "colours on rgb-seen, 6 images"
    assert page.record == json.loads((checkpoint.parent / "eval.json").read_text(encoding="utf-8"))
    assert page.result.confusion.sum() == 6 * 40 * 64
    assert [one.id for one in page.result.images] == [f"image-{i}" for i in range(6)]
    assert [one.group for one in page.pictures] == ["best"] * 2 + ["median"] * 2 + ["worst"] * 2
    assert {one.id for one in page.pictures} == {f"image-{i}" for i in range(6)}
    measured = {one.id: one.miou for one in page.result.images}
    assert all(one.miou == measured[one.id] for one in page.pictures)
    assert page.log == [{"step": 1, "loss": 2.0}]
    assert (page.paper, page.paper_source) == (None, None)  # the recipe's row is not of this split


@pytest.mark.slow
def test_two_processes_count_every_image_once(
    rgb_data: Path, tmp_path, tiny_recipe: Recipe, tiny_clip: Clip, run_command, monkeypatch
):
    model = CascadeCLIP(build_network(tiny_recipe.model, tiny_clip.visual), tiny_clip, tiny_recipe)
    model.save_pretrained(tmp_path / "run" / "model")
    monkeypatch.chdir(tmp_path)
    records = []
    for processes in ("1", "2"):
        options = ["run/model", "--data", str(rgb_data), "--device", "cpu", "--pictures", f"pictures-{processes}"]
        if processes == "1":
            run_command(evaluate, *options)
        else:
            command = [sys.executable, "-m", "cascade_clip_cli", "eval", *options, "--nproc", processes]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert done.stdout.count("pixel acc.") == 1  # only the first process prints
        records.append(json.loads((tmp_path / "run" / "eval.json").read_text(encoding="utf-8")))
    assert [record["processes"] for record in records] == [1, 2]
    assert records[0]["scores"] == records[1]["scores"]
    assert sum(entry["labelled_pixels"] for entry in records[1]["scores"]["classes"]) == 6 * 40 * 64
    assert records[0]["confused"] == records[1]["confused"]
    one, two = (sorted((tmp_path / f"pictures-{processes}").iterdir()) for processes in ("1", "2"))
    assert [file.name for file in one] == [file.name for file in two]
    # Every picture is the same, also the order of the images in the table; PNG names no date.
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_compiling_is_told_and_kept_apart(rgb_data: Path, checkpoint: Path, colour_model, run_command, monkeypatch):
    monkeypatch.setattr(console.stderr, "quiet", False)
    result = run_command(evaluate, checkpoint, "--data", rgb_data, "--device", "cpu", "--compile")
    assert colour_model.compiled == [(3, 3)]
    assert json.loads((checkpoint.parent / "eval.json").read_text(encoding="utf-8"))["compile_seconds"] == 1.5
    assert "Compiled in 2 s." in result.stderr


def test_predicted_masks_are_results_for_pycocotools(rgb_data: Path, checkpoint: Path, colour_model, run_command):
    coco = pytest.importorskip("pycocotools.coco", reason="reads the masks back")
    plain = run_command(evaluate, checkpoint, "--data", rgb_data, "--json", "-")
    result = run_command(evaluate, checkpoint, "--data", rgb_data, "--format", "coco", "--json", "-")
    assert json.loads(result.stdout)["scores"] == json.loads(plain.stdout)["scores"]
    found = coco.COCO(checkpoint.parent / "coco.json")
    results = found.loadRes(found.dataset["annotations"])
    predictor, vocabulary = colour_model.predictor(), colour_model.vocabulary(split=colour_model.split)
    assert [image["file_name"] for image in found.dataset["images"]] == [f"image-{seed}" for seed in range(6)]
    for image in found.dataset["images"]:
        pixels = np.asarray(Image.open(io.BytesIO(draw(ImageSource("", int(image["file_name"][-1])))[0])))
        expected = predictor.segment_image(pixels, vocabulary)
        for annotation in results.loadAnns(results.getAnnIds(imgIds=image["id"])):
            mask = expected.labels == annotation["category_id"] - 1
            assert np.array_equal(results.annToMask(annotation) > 0, mask)
            assert annotation["score"] == pytest.approx(expected.scores[mask].mean())
