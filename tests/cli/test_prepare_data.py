"""The command `prepare-data` as a user gives it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import exit_code
from own_images import write_own_images
from PIL import Image

from cascade_clip.data.images import decode_label
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError


@pytest.fixture
def source(tmp_path) -> Path:
    """Five images with index masks and their class names."""
    image, mask = np.zeros((3, 4, 3), np.uint8), np.array([[0, 1, 1, 255]] * 3, np.uint8)
    names, classes = ["p0", "p1", "p2", "p3", "p4"], "# from the sky down\nsky\n\ntree\n"
    return write_own_images(
        tmp_path / "my-data", names, lambda number: (image + np.uint8(number), mask), classes, "jpg"
    )


def _run(*arguments: object) -> int:
    return exit_code("prepare-data", *arguments)


def test_folder_reports_pairs_sizes_and_pixels(source: Path, tmp_path, capsys):
    assert _run("folder", "--source", source, "--output", tmp_path / "mine", "--workers", 1) == 0
    printed = capsys.readouterr()
    lines = [" ".join(line.split()) for line in printed.out.splitlines()]
    assert "mine: 2 classes" in lines
    assert "sky 12 25.0% 3 25.0%" in lines
    assert "tree 24 50.0% 6 50.0%" in lines
    assert "ignored 12 25.0% 3 25.0%" in lines
    assert "train: 4 images, 4 x 3 pixels" in lines
    assert "val: 1 image, 4 x 3 pixels" in lines
    assert PreparedDataset.open(tmp_path / "mine").name == "mine"


def test_a_contact_sheet_is_drawn_and_told_and_replaced_with_the_dataset(source: Path, tmp_path, capsys):
    command = ["folder", "--source", source, "--output", tmp_path / "mine", "--workers", 1, "--quiet"]
    sheet = tmp_path / "mine" / "contact-sheet.jpg"
    assert _run(*command) == 0
    assert f"Contact sheet of images with their masks, to look at before training: {sheet}" in capsys.readouterr().out
    first = sheet.read_bytes()
    (tmp_path / "mine" / "notes.txt").write_text("my own")
    Image.new("RGB", (4, 3), (250, 0, 0)).save(source / "images" / "p0.jpg")
    assert _run(*command) == 2
    assert sheet.read_bytes() == first
    assert _run(*command, "--overwrite") == 0
    assert sheet.read_bytes() != first
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "README.md", "contact-sheet.jpg", "data", "dataset.json", "notes.txt"
    ]  # fmt: skip


def test_values_of_the_classes_are_given_in_order(source: Path, tmp_path, capsys):
    command = ["folder", "--source", source, "--output", tmp_path / "mine", "--workers", 1, "--mask-values"]
    for given in ("0;255", "0,x", "-1,255", "", "0,²"):
        assert _run(*command, given) == 2
        assert f'--mask-values takes numbers of 0 to 255, one for each class, as in 0,255; got "{given}"' in " ".join(
            capsys.readouterr().err.split()
        )
    assert _run(*command, "1, 255", "--ignore", 0) == 0
    record = PreparedDataset.open(tmp_path / "mine").read("train", 0)
    assert decode_label(record.label_bytes)[0].tolist() == [255, 0, 0, 1]


def test_json_is_all_that_goes_to_stdout(source: Path, tmp_path, capsys):
    options = ["--name", "street", "--quiet", "--json", "-", "--workers", 1]
    assert _run("folder", "--source", source, "--output", tmp_path / "mine", *options) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["name"], content["parts"]["train"]["images"]) == ("street", 4)


def test_without_output_the_data_folder_is_used(source: Path, tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_CLIP_DATA", str(tmp_path / "home"))
    assert _run("folder", "--source", source, "--name", "mine", "--quiet", "--workers", 1) == 0
    assert PreparedDataset.open(tmp_path / "home" / "mine").count("train") == 4
    assert _run("folder", "--source", source, "--quiet", "--workers", 1) == 0
    assert PreparedDataset.open(tmp_path / "home" / "my-data").name == "my-data"


def test_classes_and_folders_may_be_given_one_by_one(source: Path, tmp_path):
    folders = ["--images", source / "images", "--masks", source / "masks", "--output", tmp_path / "mine"]
    assert _run("folder", *folders, "--classes", "sky, big tree", "--ignore", 0, "--quiet", "--workers", 1) == 0
    dataset = PreparedDataset.open(tmp_path / "mine")
    assert dataset.class_names == ("sky", "big tree")
    assert dataset.read("train", 0).present == [1]


def test_a_colour_table_may_name_the_classes(source: Path, tmp_path):
    (source / "classes.txt").unlink()
    table = tmp_path / "colours.csv"
    table.write_text("sea,#0000ff\nsand,#ffff00\n")
    for path in (source / "masks").iterdir():
        Image.new("RGB", (4, 3), "#ffff00").save(path)
    options = ["--colours", table, "--output", tmp_path / "mine", "--quiet", "--workers", 1]
    assert _run("folder", "--source", source, *options) == 0
    dataset = PreparedDataset.open(tmp_path / "mine")
    assert dataset.class_names == ("sea", "sand")
    assert dataset.read("train", 0).present == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Say first what to prepare: cascade-clip prepare-data NAME, which is one of coco, voc, context, coco-"),
        (["--source", "x"], "Say first what to prepare: cascade-clip prepare-data NAME"),
        (["folder", "mine"], "(mine). Did you mean --source?"),
        (["foldr"], 'There is no dataset "foldr" to prepare. Did you mean "folder"?'),
        (["folder"], "Say where the class names are: --source FOLDER with classes.txt in it, or --classes-file."),
        (["folder", "--classes", "a"], "Say where the images are: --source FOLDER with images in it, or --images."),
        (
            ["folder", "--classes", "a", "--classes-file", __file__],
            "with --classes or with --classes-file, not with both",
        ),
        (["voc"], "Say where PASCAL VOC 2012 is: --source FOLDER with the official files, packed or unpacked; or"),
        (["voc", "--source", "VOC", "--push-to-hub", "me/voc"], "The images of PASCAL VOC 2012 belong to the people"),
        (["voc", "--download", "--source", "VOC"], "These terms cannot be confirmed without a terminal: give --yes"),
        (["hub"], "Say what to prepare: --source ORG/NAME on the Hub, or a folder in imagefolder or Parquet form."),
        (["shapes", "--private"], "--private and --rights-checked belong to --push-to-hub ORG/NAME"),
        (["shapes", "--source", "x"], "prepare-data shapes has no --source; only coco, voc, context, coco-object, "),
        (["coco", "--sbd=x"], "prepare-data coco has no --sbd; only voc, voc-background have it."),
        (["coco", "--sdb", "x"], "No such option: --sdb"),
        (["context", "--source", "x", "--class-order", "alphabetic"], "'alphabetic' is not one of 'alphabetical'"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], message: str, tmp_path, capsys):
    output = ["--output", tmp_path / "out"] if arguments else []
    assert _run(*arguments, *output) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_bad_mask_is_named_even_when_quiet(source: Path, tmp_path, capsys):
    (source / "masks" / "p3.png").unlink()
    assert _run("folder", "--source", source, "--output", tmp_path / "out", "--quiet") == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"{source / 'images' / 'p3.jpg'} has no mask in {source / 'masks'}." in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "classes"), [("shapes", 44), ("shapes-things", 32)])
def test_shapes_are_drawn(name: str, classes: int, tmp_path):
    options = ["--train", 3, "--val", 2, "--seed", 4, "--quiet", "--workers", 1]
    assert _run(name, "--output", tmp_path / "drawn", *options) == 0
    dataset = PreparedDataset.open(tmp_path / "drawn")
    assert (dataset.name, dataset.count("train"), dataset.count("val")) == (name, 3, 2)
    assert len(dataset.class_names) == classes


def test_download_shows_the_terms_and_fetches_into_the_source(tmp_path, monkeypatch, capsys):
    """With --yes nothing is asked; --mirror alone asks for a download."""
    asked: list[tuple[str, Path, str | None]] = []

    def fetch(name: str, folder: Path, *, mirror: str | None, progress: object) -> None:
        asked.append((name, folder, mirror))
        raise UserError(f"trainval_merged.json cannot be downloaded. Put it into {folder}.")

    monkeypatch.setattr("cascade_clip.preparation.official_files.fetch_dataset", fetch)
    options = ["--yes", "--mirror", "http://mirror.example/files", "--source", tmp_path, "--quiet"]
    assert _run("context", *options, "--output", tmp_path / "out") == 2
    printed = capsys.readouterr().err
    assert "PASCAL Context. There is no single open licence." in printed
    assert f"Put it into {tmp_path}." in printed
    assert asked == [("context", tmp_path, "http://mirror.example/files")]


def test_benchmarks_of_the_same_files_are_downloaded_into_one_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CASCADE_CLIP_DATA", str(tmp_path))
    folders: list[Path] = []

    def fetch(name: str, folder: Path, **_: object) -> None:
        folders.append(folder)
        raise UserError("stop")

    monkeypatch.setattr("cascade_clip.preparation.official_files.fetch_dataset", fetch)
    for name in ("coco", "coco-object", "voc-background", "context-background", "ade20k"):
        assert _run(name, "--download", "--yes", "--quiet") == 2
    assert [folder.name for folder in folders] == ["coco", "coco", "voc", "context", "ade20k"]


@pytest.mark.parametrize("source", ["voc", "context", "folder", "annotations", "hub", "shapes"])
def test_every_source_has_an_example_and_the_shared_options(source: str, capsys):
    assert _run(source, "--help") == 0
    printed = capsys.readouterr().out
    assert {"--output", "--json", "--workers"} <= set(re.findall(r"^\W*(--[a-z-]+)", printed, re.MULTILINE))
    assert f"Example: cascade-clip prepare-data {source} --" in printed
    assert ("the smaller one lies on top" in printed) == (source == "annotations")


def test_help_lists_the_sources(capsys):
    assert _run("--help") == 0
    printed = " ".join(capsys.readouterr().out.split())
    for line in ("voc PASCAL VOC 2012: 20 classes", "folder Images and masks of your own", "shapes-things The same"):
        assert line in printed
