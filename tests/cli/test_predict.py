import io
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from faulty_server import send, serving
from PIL import Image

from cascade_clip_cli.predict import predict


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image = np.zeros((40, 64, 3), np.uint8)
    image[:, :48, 0] = 255
    image[:, 48:, 2] = 255
    (tmp_path / "photos").mkdir()
    Image.fromarray(image).save(tmp_path / "photos" / "one.png")
    Image.fromarray(image[:, ::-1]).save(tmp_path / "photos" / "two.png")
    return tmp_path / "photos"


def test_label_map_overlay_and_record_of_one_image(photos: Path, colour_model, run_command):
    result = run_command(predict, photos / "one.png", "--model", "ckpt", "--classes", "blue,green,red|crimson")
    assert sorted(path.name for path in Path("predictions").iterdir()) == [
        "one.json",
        "one.labels.png",
        "one.overlay.png",
    ]
    labels = np.array(Image.open("predictions/one.labels.png"))
    assert labels.shape == (40, 64)
    assert (labels[:, :40] == 2).all()
    assert (labels[:, 56:] == 0).all()
    record = json.loads(Path("predictions/one.json").read_text(encoding="utf-8"))
    assert [entry["class"] for entry in record["classes"]] == ["red", "blue"]
    assert record["names"] == ["blue", "green", "red"]
    assert colour_model.embedded == [("blue", "green", "red|crimson")]
    lines = [line.split() for line in result.stdout.splitlines()]
    red, blue = next(line for line in lines if "red" in line), next(line for line in lines if "blue" in line)
    assert float(red[2]) + float(blue[2]) == pytest.approx(100, abs=0.11)
    assert "1 of 1 written to predictions" in result.stdout


def test_scores_below_zero_are_explained(photos: Path, colour_model, run_command):
    colour_model.recipe = colour_model.recipe.changed(inference={"seen_bias": 1.0})
    colour_model.split = replace(colour_model.split, unseen=frozenset())
    result = run_command(predict, photos, "--model", "ckpt")
    assert "Mean scores below 0: the bias on seen classes (inference.seen_bias) is taken off" in result.stdout
    result = run_command(predict, photos, "--model", "ckpt", "--classes", "red,blue")
    assert "below 0" not in result.stdout


def test_the_model_is_loaded_and_the_words_embedded_once_for_many_images(photos: Path, colour_model, run_command):
    for index in range(3):
        (photos / f"more-{index}.png").write_bytes((photos / "one.png").read_bytes())
    result = run_command(
        predict, photos, "-m", "ckpt", "--classes", "red,blue", "-o", "out", "--device", "cpu", "--precision", "bf16"
    )
    assert colour_model.loads == [("ckpt", {"device": "cpu", "precision": "bf16"})]
    assert len(colour_model.embedded) == 1
    assert len(list(Path("out").glob("*.labels.png"))) == 5
    line = next(line for line in result.stdout.splitlines() if "one.png" in line)
    assert "■ red" in line
    assert "■ blue" in line


def test_a_broken_image_among_many_is_reported_and_the_others_are_done(photos: Path, colour_model, run_command):
    (photos / "broken.png").write_bytes((photos / "one.png").read_bytes()[:60])
    result = run_command(predict, photos, "-m", "ckpt", "-c", "red,blue", "--json", "result.json", code=2)
    assert "Left out: " in result.stderr
    assert "broken.png" in result.stderr
    assert "2 of 3 written to predictions, 1 left out" in result.stdout
    predictions = json.loads(Path("result.json").read_text(encoding="utf-8"))["predictions"]
    assert ["error" in entry for entry in predictions] == [True, False, False]
    assert predictions[1]["files"]["labels"] == str(Path("predictions") / "one.labels.png")
    assert not list(Path("predictions").glob("broken*"))


def test_no_kind_of_bad_image_costs_the_others(photos: Path, colour_model, run_command, monkeypatch):
    picture = Image.open(photos / "one.png").convert("RGB")
    encoded = io.BytesIO()
    picture.save(encoded, "AVIF")
    for name, content in {
        "cut.avif": encoded.getvalue()[:-100],
        "swapped.avif": encoded.getvalue()[:200] + encoded.getvalue()[200::-1],
        "empty.png": b"",
        "page.png": b"<html>404</html>",
        "header.tif": b"II*\0" + b"\xff" * 200,
    }.items():
        (photos / name).write_bytes(content)
    Image.new("L", (1, 5000)).save(photos / "thin.png")
    Image.new("F", (4, 4)).save(photos / "float.tif")
    (photos / "loop.png").symlink_to("loop.png")
    os.mkfifo(photos / "pipe.png")
    (photos / "folder.png").mkdir()
    # Above Pillow's own limit, which a TIFF meets while it is decoded.
    picture.save(photos / "large.tif", compression="tiff_lzw")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", picture.width * picture.height // 3)
    result = run_command(predict, photos, "-m", "ckpt", "-c", "red,blue", code=2)
    assert "3 of 12 written to predictions, 9 left out" in result.stdout
    assert result.stderr.count("Left out: ") == 9
    assert Path("predictions/large.json").exists()


def test_other_formats_lie_beside_the_predictions(photos: Path, colour_model, run_command):
    result = run_command(
        predict, photos, "-m", "ckpt", "-c", "red,blue", "--format", "coco,yolo,cvat,labelstudio", "--labels", "grey"
    )
    for name in ("coco.json", "yolo/data.yaml", "labelstudio.json"):
        assert Path("predictions", name).is_file()
        assert f"also {Path('predictions', name)}" in result.stdout
    annotations = json.loads(Path("predictions/coco.json").read_text(encoding="utf-8"))["annotations"]
    record = json.loads(Path("predictions/one.json").read_text(encoding="utf-8"))
    assert [entry["area"] for entry in annotations[:2]] == [entry["pixels"] for entry in record["classes"]]
    assert Path("predictions/cvat/ImageSets/Segmentation/default.txt").read_text(encoding="utf-8") == "one\ntwo\n"
    with Image.open("predictions/one.labels.png") as labels:
        assert labels.mode == "L"
        assert np.asarray(labels)[20, 0] == 0


def test_classes_of_a_file_and_of_the_model(photos: Path, colour_model, run_command):
    Path("classes.txt").write_text("green\nred\n", encoding="utf-8")
    run_command(predict, photos / "one.png", "-m", "ckpt", "--classes-file", "classes.txt")
    assert json.loads(Path("predictions/one.json").read_text(encoding="utf-8"))["names"] == ["green", "red"]
    run_command(predict, photos / "one.png", "-m", "ckpt")
    record = json.loads(Path("predictions/one.json").read_text(encoding="utf-8"))
    assert record["names"] == ["red", "green", "blue"]
    assert record["classes"][0]["colour"] == "#c80a0a"  # the split's own colour


def test_a_model_without_classes_asks_for_some(photos: Path, colour_model, refusal):
    colour_model.split = None
    assert "Say what to look for: --classes" in refusal(predict, photos / "one.png", "-m", "ckpt")


def test_compiled_once_before_many_images(photos: Path, colour_model, run_command):
    run_command(predict, photos, "-m", "ckpt", "--classes", "red,blue", "--compile", "-o", "out")
    assert colour_model.compiled == [(2, 3)]


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_image_replaces_its_earlier_prediction(photos: Path, colour_model, run_command):
    first = run_command(predict, photos, "-m", "ckpt", "-c", "red,blue", "-o", "out")
    names = sorted(_contents(Path("out")))
    again = run_command(predict, photos, "-m", "ckpt", "-c", "green,blue", "-o", "out")
    assert "replaced" not in first.stderr
    assert "Earlier predictions of the same images in out are replaced: 2." in again.stderr
    assert sorted(_contents(Path("out"))) == names
    assert json.loads(Path("out/one.json").read_text())["names"] == ["green", "blue"]


@pytest.mark.parametrize(
    "make",
    [
        lambda out: (out / "one.json").write_text('{"image": "elsewhere/one.png", "names": []}'),
        lambda out: (out / "one.json").write_text('{"shapes": [], "imagePath": "one.png"}'),
        lambda out: (out / "one.json").write_text("[1"),
        lambda out: (out / "one.overlay.png").write_text("mine"),
        lambda out: (out / "one.labels.png").symlink_to("nowhere"),
        lambda out: (out / "one.json").mkdir(),
    ],
)
def test_files_of_something_else_are_kept(photos: Path, colour_model, run_command, make):
    Path("out").mkdir()
    make(Path("out"))
    theirs = {path.name: path.is_file() and path.read_bytes() for path in Path("out").iterdir()}
    for _ in range(2):  # the second time finds its own
        result = run_command(predict, photos / "one.png", "-m", "ckpt", "-c", "red,blue", "-o", "out")
        assert 'holds files of something else called "one"' in result.stderr
        assert "one.png becomes photos-one." in result.stderr
        assert json.loads(Path("out/photos-one.json").read_text())["image"].endswith("photos/one.png")
        assert len(list(Path("out").iterdir())) == 4
    name, content = theirs.popitem()
    assert (Path("out", name).is_file() and Path("out", name).read_bytes()) == content


def test_an_image_that_is_read_is_not_replaced(photos: Path, colour_model, run_command):
    """The label map of one.png would be the other image."""
    (photos / "two.png").rename(photos / "one.labels.png")
    before = _contents(photos)
    run_command(predict, photos, "-m", "ckpt", "-c", "red,blue", "-o", photos)
    assert {name: content for name, content in _contents(photos).items() if name in before} == before
    assert len(_contents(photos)) == 2 + 2 * 3


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes, *, terminal: bool = False) -> None:
    stdin = SimpleNamespace(isatty=lambda: terminal, buffer=io.BytesIO(content))
    monkeypatch.setattr("cascade_clip.inference.web_files.sys", SimpleNamespace(stdin=stdin))


def test_addresses_and_standard_input(photos: Path, colour_model, run_command, monkeypatch):
    content = (photos / "one.png").read_bytes()
    pipe(monkeypatch, content)
    with serving(send(content), send(content), send(b"", status=404)) as server:
        given = [server.url("a/sky.png?width=64"), server.url("b/sky.png"), server.url("gone.png"), "-"]
        result = run_command(
            predict, *given, photos / "one.png", "-m", "ckpt", "-c", "red,blue", "--json", "all.json", "--gallery",
            "--format", "coco,yolo,labelstudio", code=2,
        )  # fmt: skip
    assert f"Left out: {given[2]} cannot be read: the server answers 404" in result.stderr
    predictions = json.loads(Path("all.json").read_text())["predictions"]
    assert [one["image"] for one in predictions] == [given[2], *given[:2], "-", str(photos / "one.png")]
    stems = ["sky", "127.0.0.1-sky", "stdin", "one"]
    for stem, name in zip(stems, [*given[:2], "-", str(photos / "one.png")], strict=True):
        assert json.loads(Path(f"predictions/{stem}.json").read_text())["image"] == name
        with Image.open(f"predictions/{stem}.labels.png") as labels, Image.open("predictions/one.labels.png") as own:
            assert np.array_equal(np.asarray(labels), np.asarray(own))
    assert Path("predictions/yolo/images/stdin.png").read_bytes() == content
    tasks = json.loads(Path("predictions/labelstudio.json").read_text())
    assert tasks[0]["data"]["image"] == given[0]
    assert len(list(Path("predictions/index_files").iterdir())) == 2 * 4


def test_what_cannot_be_read_alone_is_the_error_before_the_model_is_loaded(
    photos: Path, colour_model, refusal, monkeypatch
):
    pipe(monkeypatch, b"", terminal=True)
    for given, message in {
        "-": "nothing is piped in",
        "http://127.0.0.1:9/x.png": "Connection refused",
        "file:///etc/passwd": "give an http:// or https:// address",
    }.items():
        assert message in refusal(predict, given, "-m", "ckpt", "-c", "red")
    pipe(monkeypatch, b"")
    assert "Standard input cannot be read: it is empty" in refusal(predict, "-", "-c", "red")
    assert colour_model.loads == []


def test_sub_folders_appear_in_the_output_and_a_second_run_takes_none_of_it(photos: Path, colour_model, run_command):
    for folder in ("a", "b"):
        (photos / folder).mkdir()
        (photos / folder / "one.png").write_bytes((photos / "two.png").read_bytes())
    common = (predict, photos, "-m", "ckpt", "-c", "red,blue", "--recursive", "--format", "yolo,cvat", "-o")
    for output, shown in {"out": "4 of 4", "out/": "4 of 4", "again": "4 of 4"}.items():
        result = run_command(*common, photos / output)
        assert f"{shown} written" in result.stdout
    labels = {path.relative_to(photos / "out").as_posix() for path in (photos / "out").rglob("*.labels.png")}
    assert labels == {"one.labels.png", "two.labels.png", "a/one.labels.png", "b/one.labels.png"}
    names = (photos / "out/cvat/ImageSets/Segmentation/default.txt").read_text().split()
    assert sorted(names) == ["a-one", "b-one", "one", "two"]
    assert json.loads((photos / "out/a/one.json").read_text())["image"] == str(photos / "a/one.png")


def test_scores_of_all_classes_beside_the_labels(photos: Path, colour_model, run_command):
    run_command(predict, photos / "one.png", "-m", "ckpt", "-c", "red,green,blue", "--scores", "--json", "all.json")
    files = json.loads(Path("all.json").read_text())["predictions"][0]["files"]
    with np.load(files["scores"], allow_pickle=False) as stored:
        assert (stored["scores"].dtype, stored["scores"].shape) == (np.float16, (3, 40, 64))
        assert stored["names"].tolist() == ["red", "green", "blue"]
        assert np.array_equal(stored["scores"].argmax(axis=0), np.asarray(Image.open(files["labels"])))


def test_the_result_is_no_record_of_a_prediction(photos: Path, colour_model, refusal):
    told = refusal(predict, photos, "-m", "ckpt", "-c", "red", "-o", "out", "--json", "out/../out/two.json")
    assert told.endswith('is where the prediction "two.json" goes: choose another file.')
    assert not Path("out").exists()
