"""`cascade-clip reproduce` through the command line: plan, results, a failing row, own tables."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import exit_code
from quick_runs import CliCommands, QuickCommands, write_workplace
from tiny_data import write_tiny_dataset

from cascade_clip.config.schema import Recipe
from cascade_clip.output_folder import only_writer
from cascade_clip_cli.main import main

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser

Reproduce = Callable[..., int]


@pytest.fixture
def reproduce(tmp_path, tiny_recipe: Recipe, squares: Path, monkeypatch) -> Reproduce:
    """Run the command on the table over the squares, in its folder; returns the exit code."""
    write_workplace(tmp_path, tiny_recipe)
    monkeypatch.chdir(tmp_path)

    def run(table: str, *arguments: object) -> int:
        options = ["--split", "no-blue.toml", "--data", squares, "--output", "out", "--device", "cpu", *arguments]
        return exit_code("reproduce", table, *options)

    return run


@pytest.fixture
def quick(monkeypatch) -> QuickCommands:
    """The commands that the command uses instead of processes."""
    commands = QuickCommands()
    monkeypatch.setattr("cascade_clip.reproduce.runner.Commands", lambda: commands)
    return commands


def test_trains_and_scores_with_the_real_commands(reproduce: Reproduce, monkeypatch, capsys):
    """A trained row, one trained on all classes and a training-free one; the first in a process of its own."""
    Path("all.toml").write_text(
        'title = "Everything"\n'
        'rows = [{ name = "tiny", recipe = "tiny.toml" },\n'
        '  { name = "on all classes", recipe = "tiny.toml", mode = "supervised" },\n'
        '  { name = "free", mode = "training-free", model = "dense:bundled" }]\n'
    )
    Path("tiny-only.toml").write_text('title = "Tiny"\nrows = [{ name = "tiny", recipe = "tiny.toml" }]\n')
    assert reproduce("tiny-only.toml", "--seeds", 1) == 0
    commands = CliCommands()
    monkeypatch.setattr("cascade_clip.reproduce.runner.Commands", lambda: commands)
    assert reproduce("all.toml", "--seeds", 1, "--json", "all.json") == 0
    assert [command[0] for command in commands.commands] == ["train", "eval", "eval"]
    printed = capsys.readouterr().out
    assert "all on no-blue: Everything" in printed
    record = json.loads(Path("out/all-no-blue/results.json").read_text())
    assert json.loads(Path("all.json").read_text()) == {"tables": [record]}
    tiny, supervised, free = record["rows"]
    metrics = Path("out/tiny-only-no-blue/tiny/seed0/metrics.jsonl").read_text().splitlines()
    (validation,) = [entry["validation"] for entry in map(json.loads, metrics) if "validation" in entry]
    assert tiny["mean"]["miou_seen"] == 100 * validation["miou_seen"]
    evaluated = json.loads(Path("out/all-no-blue/on-all-classes/seed0/eval.json").read_text())
    assert evaluated["inference"]["seen_bias"] == 0
    assert supervised["mean"]["hiou"] == 100 * evaluated["scores"]["hiou"]
    assert free["mean"]["pixel_accuracy"] is not None
    assert f"{free['mean']['pixel_accuracy']:.1f}" in printed
    assert "not trained" in Path("out/all-no-blue/results.md").read_text()


def test_plan_runs_nothing(reproduce: Reproduce, quick: QuickCommands, capsys):
    assert reproduce("mine.toml", "--plan") == 0
    printed = capsys.readouterr().out
    assert printed.count("to run") == 6
    assert "6 runs to do, 12 training steps" in printed
    assert quick.commands == []
    assert not Path("out").exists()
    reproduce("mine.toml", "--seeds", 1)
    row = Path("out/mine-no-blue/one-stage")
    (row / "seed1" / "state" / "step-00000001").mkdir(parents=True)
    recipe = (row / "seed0" / "recipe.toml").read_text()
    (row / "seed1" / "recipe.toml").write_text(recipe.replace("seed = 0", "seed = 1", 1))
    capsys.readouterr()
    assert reproduce("mine.toml", "--plan", "--json", "plan.json") == 0
    printed = capsys.readouterr().out
    assert "interrupted, resumes at step 1" in printed
    assert "4 runs to do, 7 training steps" in printed
    rows = json.loads(Path("plan.json").read_text())["tables"][0]["rows"]
    assert [run["status"] for run in rows[0]["runs"]] == ["finished", "interrupted", "to run"]


def test_same_command_again_only_shows(reproduce: Reproduce, quick: QuickCommands, capsys):
    assert reproduce("mine.toml") == 0
    assert len(quick.commands) == 6
    assert "6 runs, 0 of them finished" in capsys.readouterr().err
    assert reproduce("mine.toml", "--quiet", "--markdown", "-") == 0
    assert len(quick.commands) == 6
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.strip() == Path("out/mine-no-blue/results.md").read_text().strip()
    assert "| one stage | 50.0 ± 10.0 | 30.0 ± 10.0 | 30.0 ± 0.0 | 50.0 ± 0.0 |" in said.out


def test_a_failing_row_is_shown_and_decides_the_exit_code(reproduce: Reproduce, quick: QuickCommands, capsys):
    trains = quick.act

    def act(arguments: list[str], log: Path) -> int:
        if "one-stage" not in " ".join(arguments):
            return trains(arguments, log)
        with log.open("a") as file:
            file.write(f"{said}\n")
        return code

    quick.act = act
    said, code = "Error: A crop that does not fit.", 2
    assert reproduce("mine.toml", "--seeds", 1, "--quiet") == 2
    printed = capsys.readouterr()
    assert "seed 0 failed: A crop that does not fit." in printed.out
    assert "40.0" in printed.out  # the other row
    assert "one-stage/seed0.log: A crop that does not fit." in printed.err
    said, code = "KeyError: 'defect'", 1
    assert reproduce("mine.toml", "--seeds", 1) == 1
    assert "seed 0 failed: KeyError: 'defect'" in capsys.readouterr().out
    record = json.loads(Path("out/mine-no-blue/results.json").read_text())
    assert record["rows"][0]["runs"][0]["error"] == "KeyError: 'defect'"


def test_mistakes_are_told_before_anything_runs(reproduce: Reproduce, quick: QuickCommands, capsys, tmp_path):
    write_tiny_dataset(tmp_path / "train-only", val=0)
    for arguments, message in [
        (("tabel5",), 'There is no table "tabel5"'),
        (("mine.toml", "--set", "train.bacth=1"), 'Did you mean "batch"'),
        (("mine.toml", "--data", tmp_path / "nowhere"), 'prepared dataset "squares" was not found'),
        (("mine.toml", "--device", "cuda:9"), '"cuda:9" is not available'),
        (("mine.toml", "--set", "clip.weights=nowhere.safetensors"), "nowhere.safetensors"),
        (("mine.toml", "--data", tmp_path / "train-only"), "holds no validation images"),
        (("shapes",), 'The table "shapes" is for the dataset "shapes"'),
    ]:
        assert reproduce(*arguments) == 2, arguments
        assert message in capsys.readouterr().err, arguments
    assert quick.commands == []


def test_two_at_once_do_not_train_in_the_same_folders(reproduce: Reproduce, quick: QuickCommands, capsys):
    Path("out").mkdir()
    with only_writer(Path("out")):
        assert reproduce("mine.toml") == 2
    assert 'Another process is writing "out": wait until it ends' in capsys.readouterr().err
    assert not list(Path("out").iterdir())
    assert quick.commands == []


def test_runs_on_different_clips_do_not_share_a_table(reproduce: Reproduce, quick: QuickCommands, capsys):
    assert reproduce("mine.toml") == 0
    capsys.readouterr()
    first, other = sorted(path.parent for path in Path("out").rglob("model"))[:2]
    config = json.loads((first / "model" / "config.json").read_text())
    (first / "model" / "config.json").write_text(json.dumps(config | {"clip": {"sha256": "of an earlier file"}}))
    assert reproduce("mine.toml") == 0, "all of it is finished, and only shown"
    shutil.rmtree(other)
    done = len(quick.commands)
    assert reproduce("mine.toml") == 2
    assert "was trained on other weights of CLIP than those of today" in " ".join(capsys.readouterr().err.split())
    assert len(quick.commands) == done


def test_a_missing_dataset_is_told_once_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASCADE_CLIP_DATA", "none")
    for arguments in (["training-free", "--plan"], ["table8"]):
        with pytest.raises(SystemExit) as left:
            main(["reproduce", *arguments, "--split", "voc-seen", "--output", "out"])
        assert left.value.code == 2
        shown = capsys.readouterr()
        assert " ".join((shown.out + shown.err).split()).count('dataset "voc"') == 1
    assert not list(tmp_path.iterdir())


def test_all_tables_share_their_runs(capsys, tmp_path):
    assert exit_code("reproduce", "all", "--seeds", 1, "--plan", "--json", "-", "--output", tmp_path) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert [table["table"] for table in tables][-4:] == ["table10", "sigma", "shapes", "self-training"]
    runs = [(table["table"], run) for table in tables for row in table["rows"] for run in row["runs"]]
    folders = [(tmp_path / f"{table}-shapes-seen" / run["folder"]).resolve() for table, run in runs]
    assert len(set(folders)) < len(folders)
    cascade = tmp_path / "table1-shapes-seen" / "cascade-clip" / "seed0"
    assert folders.count(cascade.resolve()) >= 9
