"""`train --init`: other classes and data from a checkpoint's weights, what does not fit named, resumed without it."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from trained_runs import Weights, assert_same_weights, changed, train_to_weights

from cascade_clip.config.recipes import change_recipe, dump_toml
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.training.run_training import recipe_for_fine_tuning
from cascade_clip.training.start import start_training

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


@pytest.fixture
def fine_tuning(inductive: Recipe, squares_recipe: Recipe, half_way: Path, tmp_path) -> Recipe:
    """From a model that saw labels of red alone to all three classes, in 4 steps."""
    schedule = tmp_path / "schedule.toml"
    schedule.write_text(dump_toml(changed(squares_recipe, iterations=4, save_every=2)))
    return recipe_for_fine_tuning(half_way, None, str(schedule))


def test_the_model_is_the_checkpoints_and_the_schedule_that_of_the_data(
    fine_tuning: Recipe, inductive: Recipe, half_way: Path
):
    assert fine_tuning.model == inductive.model
    assert fine_tuning.train.iterations == 4
    assert (fine_tuning.data.stream, fine_tuning.evaluation.split, fine_tuning.seed) == (False, None, inductive.seed)
    assert fine_tuning.data.split is None
    assert fine_tuning.train.init == str(half_way.resolve())
    assert fine_tuning.name == f"{inductive.name}-fine-tuned"


def test_training_begins_with_the_checkpoints_weights(fine_tuning: Recipe, half_way: Path, tmp_path):
    trainer = start_training(fine_tuning, tmp_path / "run", device="cpu")
    own = trainer.model.network.own_tensors()
    given = load_file(half_way / "model.safetensors")
    assert_same_weights({name: tensor.float() for name, tensor in given.items()}, {n: own[n] for n in given})
    assert trainer.split.class_names == ("red", "green", "blue")


def test_an_interrupted_run_goes_on_without_the_checkpoint(fine_tuning: Recipe, half_way: Path, tmp_path):
    copied = shutil.copytree(half_way, tmp_path / "init")
    recipe = change_recipe(fine_tuning, [f"train.init={json.dumps(str(copied))}"])
    whole: Weights = train_to_weights(recipe, tmp_path / "whole")
    start = start_training(recipe, tmp_path / "cut", device="cpu")
    start.train(steps=2)
    start.save_state()
    start.run.release()
    shutil.rmtree(copied)
    assert_same_weights(whole, train_to_weights(None, tmp_path / "cut", resume=True))


def test_what_does_not_fit_is_named_and_drawn(fine_tuning: Recipe, tmp_path, caplog):
    fewer = fine_tuning.changed(model={"stages": fine_tuning.model.stages[-1:]})
    with caplog.at_level(logging.WARNING):
        start_training(fewer, tmp_path / "fewer", device="cpu")
    assert "tensors of --init have no place in the recipe's model: " in caplog.text
    caplog.clear()
    more = change_recipe(
        fewer, [f"train.init={json.dumps(str(_saved(fewer, tmp_path / 'few')))}", "model.stages=[[3], [4]]"]
    )
    with caplog.at_level(logging.WARNING):
        start_training(more, tmp_path / "more", device="cpu")
    assert "tensors are drawn, as --init has none that fit: " in caplog.text


def _saved(recipe: Recipe, folder: Path) -> Path:
    start_training(recipe, folder / "run", device="cpu").model.save_pretrained(folder / "model")
    return folder / "model"


def test_unseen_classes_that_the_checkpoint_knows_are_told(squares_recipe: Recipe, red_seen: str, tmp_path, caplog):
    every = _saved(squares_recipe, tmp_path / "every")
    recipe = change_recipe(
        squares_recipe, [f"train.init={json.dumps(str(every))}", f"data.split={json.dumps(red_seen)}"]
    )
    with caplog.at_level(logging.WARNING):
        start_training(recipe, tmp_path / "run", device="cpu")
    assert "was trained with labels of blue, green, which the split red-seen calls unseen" in caplog.text


@pytest.mark.parametrize(
    ("init", "message"),
    [("nowhere", "nowhere"), ("dense:bundled", "is training-free: --init takes a model that `train` made")],
)
def test_a_start_that_is_none_is_refused(squares_recipe: Recipe, tmp_path, init: str, message: str):
    recipe = change_recipe(squares_recipe, [f'train.init="{init}"'])
    with pytest.raises(UserError, match=message):
        start_training(recipe, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
