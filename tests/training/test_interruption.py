"""Ctrl-C and SIGTERM between steps: the state is saved, and the resumed run is the uninterrupted one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from trained_runs import Weights, assert_same_weights, changed, log_lines, train_to_weights

from cascade_clip.config.recipes import dump_toml
from cascade_clip.config.schema import Recipe
from cascade_clip.training.interruption import interruption_after_step
from cascade_clip.training.run_training import train
from cascade_clip_cli.launch import Terminated, raise_terminated
from cascade_clip_cli.main import main


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
    number: int, error: type, uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path: Path
) -> None:
    """After the step in whose course the signal is seen."""
    recipe = changed(squares_recipe, save_every=6)
    with pytest.raises(error):
        train(recipe, tmp_path, device="cpu", **_signal_at(2, number))
    assert [state.name for state in (tmp_path / "state").iterdir()] == ["step-00000003"]
    assert_same_weights(uninterrupted[1], train_to_weights(recipe, tmp_path, resume=True))


@pytest.mark.slow  # it trains
def test_a_second_signal_acts_at_once(squares_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(squares_recipe, tmp_path, device="cpu", **_signal_at(1, times=2))
    assert not (tmp_path / "state").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow  # it trains
@pytest.mark.parametrize("resumed_at", [3, 5])
def test_means_of_the_log_cover_the_same_steps_after_a_resume(
    resumed_at: int, squares_recipe: Recipe, tmp_path: Path
) -> None:
    """Although a line of the log is due every four steps and the run is resumed between."""
    recipe = changed(squares_recipe, log_every=4, save_every=5)
    train(recipe, tmp_path / "whole", device="cpu")
    train(recipe, tmp_path / "cut", device="cpu", steps=resumed_at)
    train(None, tmp_path / "cut", device="cpu", resume=True)
    for whole, cut in zip(log_lines(tmp_path / "whole"), log_lines(tmp_path / "cut"), strict=True):
        assert {**whole, "images_per_s": 0} == {**cut, "images_per_s": 0}


@pytest.mark.slow  # it trains
def test_the_command_says_how_to_continue(
    squares_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_signals_that_are_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruption_after_step() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interruption()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
