"""What the commands find at their output and did not write is kept; nothing is begun before that is known."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import exit_code
from crashes import tree
from own_images import write_own_images

from cascade_clip import segmenter

PAGE = '<html><meta name="generator" content="Hugo">'


@pytest.fixture
def place(squares: Path, tmp_path, monkeypatch) -> Path:
    """Images, masks, a prepared dataset, a page, pictures and notes of a user's; no model can be loaded."""
    monkeypatch.setattr(segmenter.CascadeCLIP, "from_pretrained", lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.chdir(tmp_path)
    grey = [np.full((8, 8), value, np.uint8) for value in (0, 1, 0)]
    write_own_images(tmp_path / "mine", "012", lambda number: (grey[number], grey[number]), "a\nb\n")
    shutil.copytree(squares, tmp_path / "prepared")
    shutil.copytree(squares, tmp_path / "images" / "shapes")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "released.pth").write_text("no weights")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text(PAGE)
    for name in ("best-1.jpg", "cka.png", "thesis.tex"):
        (tmp_path / name.partition(".")[0]).mkdir()
        (tmp_path / name.partition(".")[0] / name).write_text("mine")
    (tmp_path / "link").symlink_to("mine")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"format_version": 1, "architectures": ["BertModel"]}')
    (tmp_path / "bert" / "model.safetensors").write_text("weights")
    return tmp_path


FOLDER = "prepare-data folder --workers 1 --source"
REFUSED = [
    # an input, or above one; also through links
    (f"{FOLDER} mine --output mine", "is read"),
    (f"{FOLDER} mine --output mine --overwrite", "is read"),
    (f"{FOLDER} mine --output . --overwrite", "is read"),
    (f"{FOLDER} mine --output mine/images --overwrite", "holds no prepared dataset"),
    (
        f"{FOLDER} site --images mine/images --masks mine/masks --classes a,b --output mine --overwrite",
        "holds no prepared",
    ),
    ("prepare-data hub --workers 1 --source prepared --output prepared --overwrite", "is read"),
    ("prepare-data voc --source mine --output mine --overwrite", "is read"),
    ("import-upstream released.pth --output .", "is read"),
    ("export prepared --output prepared --format pt2", "is read"),
    # other files
    ("prepare-data shapes --train 1 --val 1 --output mine", "holds no prepared dataset"),
    ("prepare-data context --source mine --output thesis --overwrite", "holds no prepared dataset"),
    ("import-upstream released.pth --output thesis", "holds no checkpoint"),
    ("export bundled --output thesis --format pt2", "holds no exported model"),
    ("quickstart --output thesis", "holds no quickstart"),
    ("quickstart --output images", "holds scenes of another --train, --val or --seed"),
    ("recipes coco/zegclip --copy-to file", "exists already"),
    # files
    ("prepare-data shapes --train 1 --val 1 --output file --overwrite", "is a file"),
    ("import-upstream released.pth --output released.pth", "is a file"),
    # files of the names that are written
    ("predict mine/images/0.png -c a -o site --gallery", "was not written by cascade-clip"),
    ("cka bundled --images mine/images -o cka", "was not written by cascade-clip"),
    ("cka bundled --images mine/images --report site", "was not written by cascade-clip"),
    ("eval bundled --report site", "was not written by cascade-clip"),
    ("eval bundled --pictures best-1", "was not written by cascade-clip"),
]


@pytest.mark.parametrize(("command", "message"), REFUSED)
def test_nothing_of_the_users_is_replaced(command: str, message: str, place: Path, capsys):
    before = tree(place)
    assert exit_code(*command.split()) == 2
    told = capsys.readouterr().err
    assert message in told.replace("\n", " ")
    assert "--overwrite" not in told
    assert tree(place) == before


@pytest.mark.parametrize(
    ("output", "overwrite", "code"),
    [("new/deep", False, 0), ("prepared", False, 2), ("prepared", True, 0), ("mine/prepared", False, 0)],
)
def test_what_is_ours_or_new_is_written(output: str, overwrite: bool, code: int, place: Path, capsys):
    mine = tree(place / "mine")
    (place / "prepared" / "notes.txt").write_text("mine")
    given = ["mine", "--output", output, "--quiet", *(["--overwrite"] if overwrite else [])]
    assert exit_code(*FOLDER.split(), *given) == code
    assert ("--overwrite" in capsys.readouterr().err) is (code == 2)
    classes = json.loads((place / output / "dataset.json").read_text())["classes"]
    assert classes == (["a", "b"] if code == 0 else ["red", "green", "blue"])
    assert (place / "prepared" / "notes.txt").read_text() == "mine"
    assert {name: value for name, value in tree(place / "mine").items() if not name.startswith("prepared")} == mine
