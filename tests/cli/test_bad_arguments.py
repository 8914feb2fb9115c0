"""No argument gives a traceback: a sentence with its name, exit code 2, before any work, and nothing written.

`TRIED` is the list of inputs that were tried by hand; further ones are added to it.
"""

import contextlib
import io
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from command_line import exit_code
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.distributed.launcher import api as launcher

from cascade_clip.bench import record as bench_record
from cascade_clip.checkpoint import folder as checkpoint_folder
from cascade_clip.model import dense
from cascade_clip.preparation import prepared_writer
from cascade_clip.training import start
from cascade_clip_cli.main import COMMANDS, load_command, main

LONG = "n" * 300

TRIED: tuple[tuple[str, str], ...] = (
    # --- words and numbers
    ("n" * 5000, "nnnn [… 4,8"),
    (f"predict --{LONG}", "nnnn [… 1"),
    ("predcit", "No such command 'predcit'. Did you mean 'predict'"),
    ("'[/x]'", "No such command '[/x]'"),
    ("predict", "Missing argument"),
    ("eval --seed 1", "No such option: --seed"),
    ("eval bundled --bias inf", "--bias inf is no finite number"),
    ("eval bundled --crop 32 --stride 64", "pixels would be left out. Give --crop and --stride together"),
    ("predict {image} --start inf", "--start inf is no finite number"),
    ("prepare-data folder --val-fraction nan", "--val-fraction"),
    ("train --seed=-1", "--seed"),
    ("train --set train.lr=inf", "train.lr"),
    ("train --seed 99999999999999999999", "seed"),
    ("train --set nothing", "--set needs key=value"),
    ("train --set train.batch.x=3", "batch"),
    ("train --set train.bacth=3", 'Did you mean "batch"'),
    ("train --split coco-sen", 'There is no split "coco-sen". Did you mean "coco-seen"'),
    ("train --recipe coco/zegclp", 'Did you mean "coco/zegclip"'),
    ("train --recipe {folder}", "There is no recipe"),
    ("train --device cuda:99", 'The device "cuda:99" is not available'),
    ("train --track nosuch --data {data}", '"nosuch" is no experiment tracker'),
    ("train --resume", "--resume needs --output"),
    ("train --resume --output {folder}", "No run lies in"),
    ("train --resume --output x --seed 3", "is continued with its own recipe.toml: leave --init, --recipe"),
    ("train --output {taken} --data {data}", "is not empty and holds no run"),
    ("self-train", "name it with --init"),
    ("self-train --init {folder}", "is no checkpoint folder"),
    ("self-train --init no/such/model", '"no/such/model" is no checkpoint folder: it does not exist'),
    ("cka bundled --layers block", '--layers knows no "block". Did you mean "blocks"?'),
    ("cka bundled --layers ,", "--layers is empty"),
    ("cka bundled --cross", "--cross compares the layers of two models"),
    ("cka bundled --batch 3", "--batch"),
    ("cka nosuch", '"nosuch" is neither a checkpoint nor a run folder'),
    ("bench nosuch", 'There is no "nosuch" to measure'),
    ("bench predict --size 0x12", "--size is HEIGHTxWIDTH"),
    ("bench train --images 3", "bench train has no --images"),
    ("bench prepare --compile", "bench prepare runs no network"),
    ("bench train --plain", "bench train has no --plain"),
    ("export bundled --output {place}/new --format onxx", '"onxx" is no format of export. Did you mean "onnx"'),
    ("import-upstream {file} --output {place}/new --stages 6-x", '--stages "6-x" is not understood at "6-x"'),
    ("import-upstream no.pth --output {place}/new", 'There is no file "no.pth"'),
    ("similarity {image} --point 1", '--point "1" is no pixel'),
    ("similarity {image} --point 99,99", "--point 99,99 lies outside of the image, whose pixels go from 0,0 to 11,7."),
    ("similarity {image} --fraction 0.5,1.5", "--fraction 0.5,1.5 lies outside of the image"),
    ("similarity {image} --fraction 0.5", '--fraction "0.5" is no place'),
    ("similarity {image} --point 1,1 --class tree", "Give only one of --point and --class"),
    ("similarity {image} --label {small}", "--label needs --class NAME"),
    ("similarity {image} --classes a,b", "--classes or --split needs --class NAME"),
    ("reproduce nosuch", 'no table "nosuch"'),
    ("train --set data.ratio=[2,1]", "data: ratio: the smaller number comes first"),
    ("recipes --copy-to {place}/new.toml", "--copy-to needs the name of the recipe"),
    ("recipes nosuch", 'There is no recipe "nosuch"'),
    ("prepare-data vok", 'Did you mean "voc"'),
    ("bench predict --size 16384x16384", "each at most 4096"),
    ("predict {image} -m bundled --classes-file {place}/split.toml", "give a split with --split"),
    # --- a result in the place of something else
    ("predict {image} -m bundled --json {image}", "has the name of another kind of file"),
    ("cka bundled --data {data} --json {place}/cka.csv", "has the name of another kind of file"),
    ("eval bundled --json {binary}", "is there already and no result of cascade-clip"),
    ("similarity {image} --label {small} --json {small}", "is read, and is no file to write the result to"),
    ("predict --json {names} --classes-file {names} {image}", "is read, and is no file to write the result to"),
    ("eval bundled --json {data}/dataset.json", "is there already and no result of cascade-clip"),
    ("predict {image} -m bundled --classes {lines}", "is a file, names are expected: give it with --classes-file"),
    ("predict {image} -m bundled --classes " + "n" * 3000, "has 3,000 characters: shorten the name"),
    # --- classes, told before a model is loaded
    ("predict {image} -m bundled --classes red,Red", '"red" is given twice, in "red" and in "Red"'),
    ("predict {image} -m bundled --classes 'sofa|couch,Couch'", '"couch" is given twice'),
    ("predict {image} -m bundled --classes a --format coco,yollo", '"yollo" is not known. Did you mean "yolo"'),
    ("predict {image} -m bundled --classes a --labels gray", '--labels "gray" is not known. Did you mean "grey"'),
    ("predict {image} -m bundled --classes a,,b", "Class 2"),
    ("predict {image} -m bundled --classes 'road,ro\u00adad'", '"road" is given twice'),
    ("predict {image} -m bundled --classes 'sofa|'", "empty synonym"),
    ("predict {image} -m bundled --classes a --split voc", "Give only one of --classes and --split"),
    ("predict {image} -m bundled --classes-file {binary}", "is no UTF-8 text"),
    ("predict {image} -m bundled --classes-file {empty}", "holds no class name"),
    ("predict {image} -m bundled --classes a --explain-classes b", '"b" of --explain-classes is none of the classes'),
    ("predict {image} -m bundled --every 2", "--every, --start and --end are for videos"),
    ("predict {image} -m bundled --runtime onxx", '"onxx" is no runtime. Did you mean "onnx"?'),
    ("predict {folder} -m bundled", "No image was found in the folder"),
    ("predict '{place}/*.xyz' -m bundled", "No image matches"),
    ("predict {place}/nosuch.png -m bundled", "There is no file or folder"),
    ("predict {image} -m {folder}", "is no checkpoint folder"),
    ("similarity {image} --class tree --classes a,b", "Name others with --classes"),
    ("similarity {image} --class a --classes a,b --label {small}", "they must be equal"),
    ("similarity {file}", "cannot be read"),
    ("eval bundled --split nosuch", 'There is no split "nosuch"'),
    ("eval bundled --templates nosuch", "is neither a set of text templates nor a file"),
    ("eval bundled --templates {file}", "needs exactly one {{}}"),
    ("eval bundled --data {place}/nosuch", 'nosuch" for --data'),
    ("eval bundled --split voc --data {folder}", 'The prepared dataset "voc" was not found'),
    ("eval nosuch", '"nosuch" is no checkpoint folder'),
    ("eval bundled --data {data} --format yolo", '--format "yolo" is not known. Known: coco'),
    ("eval bundled --data {data} --format coco", "--format coco needs a folder to write to: give --output"),
    ("eval bundled --data {data} --format coco --nproc 2", "--format coco needs one process"),
    # --- results that exclude each other, names on the Hub
    ("reproduce shapes --plan --json - --markdown -", "--json - and --markdown - both go to stdout"),
    ("prepare-data shapes --output {place}/new --push-to-hub 'a b/c'", '"a b/c" is no name for a dataset on the Hub'),
    ("prepare-data shapes --output {taken}", "is not empty"),
    ("prepare-data folder --source {place}/nosuch --output {place}/new", 'nosuch" for --source'),
    (
        "prepare-data folder --source {folder} --output {place}/new",
        "holds no classes.txt: put the class names there, or give --classes-file.",
    ),
    (
        "prepare-data folder --source {folder} --classes a,b --output {place}/new",
        "holds no images: put the images there, or give --images.",
    ),
    ("recipes voc/zegclip --copy-to {file}", "exists already"),
    ("recipes voc/zegclip --copy-to {place}/nosuch/new/\0", "null"),
)


class WorkBeganError(Exception):
    """The arguments were accepted: what takes long would have begun."""


@pytest.fixture
def no_work(monkeypatch) -> None:
    def begin(*_: Any, **__: Any) -> None:
        raise WorkBeganError

    for module, name in (
        (checkpoint_folder, "load_clip"),
        (checkpoint_folder, "from_parts"),
        (dense, "load_clip"),
        (start, "load_clip"),
        (bench_record, "build_workload"),
        (prepared_writer, "write_shards"),
        (launcher, "elastic_launch"),
    ):
        monkeypatch.setattr(module, name, begin)


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, Path]:
    """Files and folders that the arguments name, by their names in braces."""
    place = tmp_path_factory.mktemp("places")
    named = {
        name: place / name
        for name in ("file", "empty", "binary", "names", "folder", "taken", "image", "small", "circle", "data")
    }
    named["file"].write_text("text\n")
    named["empty"].write_text("")
    (place / "split.toml").write_text('dataset = "x"')
    named["lines"] = place / "lines.txt"
    named["lines"].write_text("road\n")
    named["names"].write_text('{"0": "road"}')
    named["binary"].write_bytes(bytes(range(128, 256)))
    named["folder"].mkdir()
    named["taken"].mkdir()
    (named["taken"] / "mine.txt").write_text("mine")
    named["circle"].symlink_to("circle")
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(place / "image.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(place / "small.png")
    with contextlib.suppress(SystemExit):
        main(["prepare-data", "shapes", "--train", "2", "--val", "2", "--quiet", "--output", str(named["data"])])
    return {**named, "image": place / "image.png", "small": place / "small.png", "place": place}


def _tree(folder: Path) -> list[tuple[str, int]]:
    return sorted((path.as_posix(), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


def _refused(arguments: list[str], places: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of arguments that must be refused before any work."""
    before = _tree(places["place"])
    capsys.readouterr()
    code, printed = exit_code(*arguments), capsys.readouterr()
    assert code == 2, printed.err
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert "ree some space" not in printed.err
    assert _tree(places["place"]) == before
    return " ".join(printed.err.replace("│", " ").split())


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(("arguments", "message"), TRIED, ids=[arguments[:80] for arguments, _ in TRIED])
def test_what_was_tried(arguments: str, message: str, places: dict[str, Path], capsys, monkeypatch):
    monkeypatch.chdir(places["folder"])
    given = [word.format(**places) for word in shlex.split(arguments)]
    assert message.format(**places) in _refused(given, places, capsys)


class Option(NamedTuple):
    """An option or argument of a command, and the check that it has."""

    command: tuple[str, ...]
    name: str
    check: str | None
    kind: str

    def given(self, value: str) -> list[str]:
        return [*self.command, f"{self.name}={value}" if self.name.startswith("-") else value]


def _options() -> Iterator[Option]:
    for name in COMMANDS:
        command = load_command(name)
        below = getattr(command, "commands", None)
        for words, one in [((name, word), each) for word, each in below.items()] if below else [((name,), command)]:
            for param in one.params:
                named = max(param.opts, key=len) if param.param_type_name == "option" else "ARGUMENT"
                check = getattr(param.callback, "__name__", None)
                if not getattr(param, "is_flag", False):
                    yield Option(words, named, check, str(param.type_descriptor.annotation))


OPTIONS = tuple(_options())
BAD = {
    "output_folder": {
        "": "is empty",
        LONG: "File name too long",
        "{file}": "is a file",
        "{file}/below": "is a file",
        "{circle}/x": "Too many levels of symbolic links",
        "~nobody-of-this-name/x": "Could not determine home directory",
        "/proc/x": "it is no place for files",
        "/sys/x": "nothing can be written in",
        "/dev/null/x": "is a file",
    },
    "output_file": {
        "": "is empty",
        LONG: "File name too long",
        "{folder}": "is a folder",
        "{file}/below": "is a file",
        "/proc/x": "it is no place for files",
        "/sys/x/y": "nothing can be written in",
    },
    "input_file": {
        "": "is empty",
        LONG: "File name too long",
        "{folder}": "is a folder",
        "{folder}/nosuch": "There is no file",
        "{file}/below": "There is no file",
        "/proc/self/mem": "cannot be read",
        "{circle}": "Too many levels of symbolic links",
    },
    "place": {
        "": "is empty",
        LONG: "File name too long",
        "{circle}/x": "Too many levels of symbolic links",
        "~nobody-of-this-name/x": "Could not determine home directory",
    },
    "finite": {"nan": "", "inf": "", "-inf": ""},
}
BAD["result_file"] = BAD["output_file"]


def _product() -> Iterator[Any]:
    """Everything that is bad for a check at the first option that has it, and two of these at the others."""
    met = set()
    for option in OPTIONS:
        bad = BAD.get(option.check or "", {})
        for value, message in list(bad.items())[: 2 if option.check in met else None]:
            yield pytest.param(option, value, message, id=f"{' '.join(option.command)} {option.name} {value[:20]}")
        met.add(option.check)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(("option", "value", "message"), list(_product()))
def test_every_option_that_takes_a_path_or_a_fraction(
    option: Option, value: str, message: str, places: dict[str, Path], capsys, monkeypatch
):
    monkeypatch.chdir(places["folder"])
    said = _refused(option.given(value.format(**places)), places, capsys)
    assert message in said
    assert option.name in said or option.name == "ARGUMENT"


def test_every_path_and_every_fraction_is_checked():
    of_these_types = [option for option in OPTIONS if "Path" in option.kind or "float" in option.kind]
    assert len(of_these_types) > 40
    assert [option for option in of_these_types if option.check not in BAD] == []


BASE = {
    "quickstart": "--output {place}/new",
    "predict": "{image} --model bundled --output {place}/new",
    "prepare-data": "--output {place}/new",
    "train": "--data {data} --output {place}/new --quiet",
    "self-train": "--init bundled --data {data} --output {place}/new",
    "eval": "bundled --data {data}",
    "reproduce": "shapes --plan --data {data} --output {place}/new",
    "cka": "bundled --data {data} --output {place}/new",
    "similarity": "{image} --output {place}/new",
    "bench": "predict",
    "export": "bundled --output {place}/new",
    "import-upstream": "{file} --output {place}/new",
    "demo": "",
    "recipes": "",
}


@pytest.mark.usefixtures("no_work")
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    option=st.sampled_from([option for option in OPTIONS if option.name not in {"--json", "--markdown", "--copy-to"}]),
    value=st.one_of(
        st.text(st.characters(exclude_characters="\0"), max_size=12),
        st.sampled_from(
            ["[/x]", "-", "a/b", "hub:x", "hub:", "://", "0", "-1", "1e400", "9" * 25, "²", "\udcff", "..", "{"]
        ),
    ),
)
def test_any_text_for_any_option(option: Option, value: str, places: dict[str, Path], monkeypatch):
    monkeypatch.chdir(places["folder"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    base = [word.format(**places) for word in shlex.split(BASE[option.command[0]])]
    last = option.given(value)[len(option.command) :]
    with contextlib.suppress(SystemExit, WorkBeganError):
        main([*option.command, *base, *last])
