"""`cascade-clip self-train` through the command line: from an inductive run to a scored checkpoint."""

import json
from pathlib import Path

import pytest
from command_line import exit_code
from quick_runs import write_workplace

from cascade_clip.checkpoint.description import read_config
from cascade_clip.config.recipes import load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.training.run_training import recipe_for_self_training

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tiny_recipe: Recipe, squares: Path) -> Path:
    """A folder with a recipe, a split and an inductive run of four steps."""
    folder = tmp_path_factory.mktemp("workplace")
    write_workplace(folder, tiny_recipe)
    train = ["train", "--recipe", folder / "tiny.toml", "--split", folder / "no-blue.toml", "--data", squares]
    assert (
        exit_code(*train, "--output", folder / "run", "--set", "train.iterations=4", "--device", "cpu", "--quiet") == 0
    )
    return folder


def test_the_whole_path(workplace: Path, tmp_path, capsys):
    """The checkpoint's own recipe, half its steps, no bias; a finished run is prolonged, resumed and scored."""
    init, folder = workplace / "run" / "model-half", tmp_path / "self-trained"
    start = ["self-train", "--init", init, "--output", folder, "--device", "cpu", "--quiet"]
    assert exit_code(*start, "--set", "self_training.threshold=0.2", "--json", tmp_path / "result.json") == 0
    assert "unnamed-self-training after 2 steps" in capsys.readouterr().out
    recipe = load_recipe(str(folder / "recipe.toml"))
    assert (recipe.train.iterations, recipe.inference.seen_bias) == (2, 0)
    assert (recipe.self_training.init, recipe.self_training.threshold) == (str(init), 0.2)
    assert recipe.data == read_config(init).recipe.data
    resume = ["self-train", "--resume", "--output", folder, "--device", "cpu", "--quiet"]
    assert exit_code(*resume, "--set", "self_training.threshold=0.3") == 2
    assert "self_training.threshold is 0.2 and cannot become 0.3" in " ".join(capsys.readouterr().err.split())
    assert exit_code(*resume, "--set", "train.iterations=3", "--json", tmp_path / "result.json") == 0
    assert "unnamed-self-training after 3 steps" in capsys.readouterr().out
    trained = json.loads((tmp_path / "result.json").read_text())
    assert exit_code(*resume) == 0
    capsys.readouterr()
    assert exit_code("eval", folder / "model", "--device", "cpu", "--quiet", "--json", "-") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["inference"]["seen_bias"] == 0
    assert record["scores"]["miou_unseen"] == trained["scores"]["miou_unseen"]


def test_recipes_of_either_kind(workplace: Path, tmp_path):
    """An inductive recipe is halved, one with a section `self_training` is not; `--set` has the last word."""
    init = str(workplace / "run" / "model-half")
    inductive = str(workplace / "tiny.toml")
    assert recipe_for_self_training(init, inductive).train.iterations == 1
    assert recipe_for_self_training(init, inductive, ["train.iterations=9"]).train.iterations == 9
    own = tmp_path / "own.toml"
    own.write_text(Path(inductive).read_text() + '\n[self_training]\nteacher = "fixed"\n')
    assert recipe_for_self_training(init, str(own)).train.iterations == 2
    assert recipe_for_self_training(init, settings=["seed=3"]).seed == 3
    voc = recipe_for_self_training(init, "voc/cascade-zegclip")
    assert (voc.train.iterations, voc.train.batch) == (10_000, 32)


def test_mistakes(workplace: Path, tmp_path, capsys):
    init = workplace / "run" / "model-half"
    own = tmp_path / "own.toml"
    own.write_text((workplace / "tiny.toml").read_text() + '\n[self_training]\nteacher = "fixed"\n')
    all_seen = tmp_path / "all-seen.toml"
    all_seen.write_text((workplace / "no-blue.toml").read_text().replace('["blue"]', "[]"))
    output = ("--output", tmp_path / "run", "--device", "cpu")
    for arguments, message in [
        (("self-train", "--init", workplace / "run"), f"from its half-way checkpoint: --init {init}"),
        (("self-train", "--init", init, "--split", "squares"), 'There is no split "squares"'),
        (("self-train", "--init", init, "--set", "self_training.teacher=other"), "self_training.teacher"),
        (("train", "--recipe", own, "--split", workplace / "no-blue.toml"), "use `cascade-clip self-train`"),
        (("self-train", "--init", init, "--split", all_seen), "has no unseen classes, so there is nothing"),
    ]:
        assert exit_code(*arguments, *output) == 2, arguments
        assert message in " ".join(capsys.readouterr().err.split()), arguments
        assert not (tmp_path / "run").exists()
    assert exit_code("self-train", "--resume", "--output", workplace / "run") == 2
    assert "holds an inductive run: continue it with `cascade-clip train --resume`" in capsys.readouterr().err
