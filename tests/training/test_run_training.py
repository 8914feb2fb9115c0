"""`train`: what it returns, stopping after some steps, and runs of earlier versions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from trained_runs import Weights, assert_same_weights, changed, interrupt

from cascade_clip.config.recipes import load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.data.loader_processes import processes_by_default
from cascade_clip.errors import UserError
from cascade_clip.reproduce.runs import settings_of
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training.run_folder import RunFolder
from cascade_clip.training.run_training import train


def test_stopped_and_resumed(uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path: Path) -> None:
    """The state is saved where `steps` stopped it, also between two that the recipe saves."""
    done: list[int] = []
    first = train(squares_recipe, tmp_path, device="cpu", steps=3, on_step=done.append)
    assert (first.steps, first.scores, first.model) == (3, None, None)
    assert not (tmp_path / "model").exists()
    last = train(None, str(tmp_path), device="cpu", resume=True, on_step=done.append)
    assert done == [1, 2, 3, 4, 5, 6]
    assert (last.steps, last.recipe, last.split.name) == (6, squares_recipe, "squares")
    assert last.is_main_process
    assert last.scores is not None
    assert last.model == tmp_path / "model"
    assert_same_weights(uninterrupted[1], load_file(last.model / "model.safetensors"))


def test_a_run_of_an_earlier_version(
    uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path: Path
) -> None:
    """Keys that are no more are dropped where they hold their default; a user's recipe may not have them."""
    folder = tmp_path / "run"
    interrupt(squares_recipe, folder, 3)
    file = folder / "recipe.toml"
    now = file.read_text()
    file.write_text(now.replace("[train]\n", "[train]\ncache_features = false\n"))
    with pytest.raises(UserError, match=r"train\.cache_features: unknown key"):
        load_recipe(str(file))
    assert train(None, folder, device="cpu", resume=True).recipe == squares_recipe
    assert_same_weights(uninterrupted[1], load_file(folder / "model" / "model.safetensors"))
    file.write_text(now.replace("[data]\n", "[data]\nviews = 2\n"))
    with pytest.raises(UserError, match=r"data\.views: unknown key"):
        train(None, folder, device="cpu", resume=True)


def test_a_checkpoint_of_an_earlier_version(uninterrupted: tuple[Path, Weights], tmp_path: Path) -> None:
    folder = shutil.copytree(uninterrupted[0] / "model", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["recipe_and_split_sha256"]
    config["recipe"]["data"]["views"] = 2
    config["recipe"]["train"]["cache_features"] = True
    (folder / "config.json").write_text(json.dumps(config))
    recipe = CascadeCLIP.from_pretrained(uninterrupted[0] / "model").recipe
    assert CascadeCLIP.from_pretrained(folder).recipe == recipe


def test_loader_processes_that_no_recipe_names(squares_recipe: Recipe, tmp_path: Path) -> None:
    """They are as many as there are cores, recorded, and no part of what a run is."""
    recipe = changed(squares_recipe, workers=None, iterations=1)
    train(recipe, tmp_path / "default", device="cpu")
    train(changed(recipe, workers=0), tmp_path / "none", device="cpu")
    folders = [RunFolder(tmp_path / name) for name in ("default", "none")]
    records = [json.loads(run.environment_file.read_text())["loader_processes"] for run in folders]
    assert records == [processes_by_default(), 0]
    assert folders[0].recipe().train.workers is None
    assert settings_of(folders[0].recipe()) == settings_of(folders[1].recipe())
    assert_same_weights(*(load_file(run.model / "model.safetensors") for run in folders))
