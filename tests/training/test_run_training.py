"""`train`: what it returns, stopping after some steps, and runs of earlier versions."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file
from trained_runs import Weights, assert_same_weights, changed, interrupt, log_lines, train_to_weights

from cascade_clip.config.recipes import dump_toml, load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.data.loader_processes import processes_by_default
from cascade_clip.errors import UserError
from cascade_clip.reproduce.runs import settings_of
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training.run_folder import RunFolder
from cascade_clip.training.run_training import interruption_after_step, train
from cascade_clip_cli.launch import Terminated, raise_terminated
from cascade_clip_cli.main import main


def test_stopped_and_resumed(uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path):
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


def test_a_run_of_an_earlier_version(uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path):
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


def test_a_checkpoint_of_an_earlier_version(uninterrupted: tuple[Path, Weights], tmp_path):
    folder = shutil.copytree(uninterrupted[0] / "model", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["recipe_and_split_sha256"]
    config["recipe"]["data"]["views"] = 2
    config["recipe"]["train"]["cache_features"] = True
    (folder / "config.json").write_text(json.dumps(config))
    recipe = CascadeCLIP.from_pretrained(uninterrupted[0] / "model").recipe
    assert CascadeCLIP.from_pretrained(folder).recipe == recipe


def test_loader_processes_that_no_recipe_names(squares_recipe: Recipe, tmp_path):
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


@pytest.fixture(autouse=True)
def commands_handlers(own_signals: None) -> None:
    """Handlers of signals as in the command line."""
    signal.signal(signal.SIGTERM, raise_terminated)


def _signal_at(step: int, number: int = signal.SIGINT, times: int = 1) -> dict[str, object]:
    def send(done: int) -> None:
        if done == step:
            for _ in range(times):
                os.kill(os.getpid(), number)

    return {"on_step": send}


@pytest.mark.slow  # it trains
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_the_state_is_saved_before_training_stops(
    number: int, error: type, uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path
):
    """After the step in whose course the signal is seen."""
    recipe = changed(squares_recipe, save_every=6)
    with pytest.raises(error):
        train(recipe, tmp_path, device="cpu", **_signal_at(2, number))
    assert [state.name for state in (tmp_path / "state").iterdir()] == ["step-00000003"]
    assert_same_weights(uninterrupted[1], train_to_weights(recipe, tmp_path, resume=True))


@pytest.mark.slow  # it trains
def test_a_second_signal_acts_at_once(squares_recipe: Recipe, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(squares_recipe, tmp_path, device="cpu", **_signal_at(1, times=2))
    assert not (tmp_path / "state").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow  # it trains
@pytest.mark.parametrize("resumed_at", [3, 5])
def test_means_of_the_log_cover_the_same_steps_after_a_resume(resumed_at: int, squares_recipe: Recipe, tmp_path):
    """Although a line of the log is due every four steps and the run is resumed between."""
    recipe = changed(squares_recipe, log_every=4, save_every=5)
    train(recipe, tmp_path / "whole", device="cpu")
    train(recipe, tmp_path / "cut", device="cpu", steps=resumed_at)
    train(None, tmp_path / "cut", device="cpu", resume=True)
    for whole, cut in zip(log_lines(tmp_path / "whole"), log_lines(tmp_path / "cut"), strict=True):
        assert {**whole, "images_per_s": 0} == {**cut, "images_per_s": 0}


@pytest.mark.slow  # it trains
def test_the_command_says_how_to_continue(squares_recipe: Recipe, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "my run"
    real = train

    def interrupted(*given: object, **options: object) -> object:
        return real(*given, **{**options, **_signal_at(2)})  # type: ignore[arg-type]

    monkeypatch.setattr("cascade_clip.training.run_training.train", interrupted)
    (tmp_path / "recipe.toml").write_text(dump_toml(changed(squares_recipe, save_every=6)))
    with pytest.raises(SystemExit) as left:
        main(["train", "--recipe", str(tmp_path / "recipe.toml"), "--output", str(folder), "--device", "cpu"])
    assert left.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"Interrupted; 3 of 6 steps are kept. To continue: cascade-clip train --resume --output '{folder}' --device cpu"
    )


def test_signals_that_are_ignored_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruption_after_step() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interruption()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
