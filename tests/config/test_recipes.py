"""Recipes: every shipped one loads, overrides apply, mistakes are told all at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from cascade_clip.config.recipes import dump_toml, load_recipe, recipe_file, recipe_names
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.evaluation.published import paper_figures


def test_there_are_recipes_for_every_benchmark() -> None:
    assert {name.partition("/")[0] for name in recipe_names()} >= {"coco", "voc", "context", "folder", "shapes"}


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name.replace("/", "-")
    text = recipe_file(name).read_text()
    assert text.startswith("# ")
    assert f"--recipe {name}" in text or "# Run:" in text
    if recipe.data.split:
        split = get_split(recipe.data.split)
        assert split.dataset == name.split("/", maxsplit=1)[0]
        if recipe.paper:
            assert paper_figures(recipe.paper.table, recipe.paper.row, split.name) is not None
    assert Recipe.model_validate(tomllib.loads(dump_toml(recipe))) == recipe


@pytest.mark.parametrize(
    ("name", "tokens", "templates", "iterations", "split"),
    [
        ("coco/cascade-zegclip", 50, "multi", 80_000, "coco-seen"),
        ("context/cascade-zegclip", 35, "multi", 40_000, "context-released-seen"),
        ("voc/cascade-zegclip", 10, "single", 20_000, "voc-seen"),
    ],
)
def test_released_settings(name: str, tokens: int, templates: str, iterations: int, split: str) -> None:
    """SPEC section 11."""
    recipe = load_recipe(name)
    found = (recipe.model.prompts.tokens, recipe.text.templates, recipe.train.iterations, recipe.data.split)
    assert found == (tokens, templates, iterations, split)
    assert recipe.train.batch == 16
    assert recipe.model.stages == ((6, 7, 8), (9, 10, 11), (12,))
    assert recipe.model.prompts.depth is None
    assert (recipe.inference.crop, recipe.inference.stride, recipe.inference.seen_bias) == (512, 426, 0.1)


def test_overrides() -> None:
    recipe = load_recipe(
        "coco/cascade-zegclip", ["train.batch=8", "data.split=voc", "model.stages=[[11],[12]]", 'name="x"']
    )
    assert (recipe.train.batch, recipe.data.split, recipe.model.stages, recipe.name) == (8, "voc", ((11,), (12,)), "x")
    assert recipe.model.prompts.tokens == 50


def test_extends_one_level(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('name = "base"\n[train]\nbatch = 2\niterations = 7\n')
    (tmp_path / "own.toml").write_text('extends = "base.toml"\n[train]\nbatch = 3\n')
    recipe = load_recipe(str(tmp_path / "own.toml"))
    assert (recipe.name, recipe.train.batch, recipe.train.iterations) == ("base", 3, 7)
    (tmp_path / "shipped.toml").write_text('extends = "voc/cascade-zegclip"\nname = "mine"\n')
    assert load_recipe(str(tmp_path / "shipped.toml")).model.prompts.tokens == 10
    assert load_recipe(str(tmp_path / "shipped.toml")).paper is None
    (tmp_path / "deep.toml").write_text('extends = "own.toml"\n')
    with pytest.raises(UserError, match="one level is allowed"):
        load_recipe(str(tmp_path / "deep.toml"))


def test_all_mistakes_at_once() -> None:
    with pytest.raises(UserError) as caught:
        load_recipe("coco/cascade-zegclip", ["train.bacth=8", "train.lr=-1", "model.host=zegclop", "nonsense.x=1"])
    message = str(caught.value)
    assert message.startswith('There are 4 mistakes in recipe "coco/cascade-zegclip" with --set:')
    assert 'train.bacth: unknown key. Did you mean "batch"' in message
    assert "train.lr: " in message
    assert "(got -1)" in message
    assert "model.host: " in message
    assert "nonsense: unknown key." in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.batch"], '--set needs key=value, for example --set train.batch=8; got "train.batch"'),
        (["train.batch.size=3"], '"batch" is a value, not a section'),
        (["model.stages=[[3, 2]]"], "in rising order, got [3, 2]"),
        (["model.stages=[[]]"], "every stage needs at least one block"),
        (["inference.stride=600"], "the stride (600) may not exceed the crop (512)"),
    ],
)
def test_values_that_do_not_fit(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe("coco/zegclip" if "size" not in overrides[0] else None, ["train.batch=4", *overrides])
    assert message in str(caught.value)


def test_unknown_and_broken_recipes(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r'There is no recipe "coco/cascade-zegclp".*Did you mean "coco/cascade-zegclip"'
    ):
        load_recipe("coco/cascade-zegclp")
    (tmp_path / "broken.toml").write_text("train = [")
    with pytest.raises(UserError, match="is no valid TOML"):
        load_recipe(str(tmp_path / "broken.toml"))
