"""A run that is prolonged: which keys may change, what the run goes on to, and what its folder tells of it."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file
from trained_runs import Weights, assert_same_weights, changed, interrupt, log_lines

from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.training.run_folder import RunFolder
from cascade_clip.training.run_training import train
from cascade_clip.training.start import start_training
from cascade_clip.training.step import learning_rate

pytestmark = pytest.mark.slow  # it trains


@pytest.fixture
def finished(uninterrupted: tuple[Path, Weights], tmp_path) -> RunFolder:
    """A run of six steps that is done."""
    return RunFolder(Path(shutil.copytree(uninterrupted[0], tmp_path / "run")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.lr=0.5", r"train\.lr is 0\.0001 and cannot become 0\.5\. With --resume only train\.iterations, "),
        ("train.batch=2", r"train\.batch is 4 and cannot become 2\."),
        ("self_training.threshold=0.5", r"self_training\.threshold is None and cannot become 0\.5"),
        ("train.iterations=5", r"6 steps of the run in .* are done, more than train\.iterations=5: give at least 6\."),
        ("train.iteration=9", r"train\.iteration: unknown key.*iterations"),
    ],
)
def test_a_change_that_a_run_does_not_take_is_refused_by_name(finished: RunFolder, change: str, message: str):
    before = {path: path.read_bytes() for path in sorted(finished.folder.rglob("*")) if path.is_file()}
    with pytest.raises(UserError, match=message):
        train(None, finished.folder, device="cpu", resume=True, changes=[change])
    assert before == {path: path.read_bytes() for path in sorted(finished.folder.rglob("*")) if path.is_file()}


def test_changes_without_resume_are_refused(squares_recipe: Recipe, tmp_path):
    with pytest.raises(UserError, match="a run that is continued"):
        train(squares_recipe, tmp_path / "run", device="cpu", changes=["train.iterations=9"])
    with pytest.raises(UserError, match="There is no recipe to train"):
        train(None, tmp_path / "run", device="cpu")


def test_a_finished_run_is_prolonged(finished: RunFolder, squares_recipe: Recipe, caplog):
    """The rate follows the new length from the next step on; log, recipe, record and half-way model do too."""
    caplog.set_level("INFO", "cascade_clip")
    half_before = (finished.half_way_model / "model.safetensors").read_bytes()
    last = (finished.model / "model.safetensors").read_bytes()
    changes = ["train.iterations=12", "train.log_every=2"]
    result = train(None, finished.folder, device="cpu", resume=True, changes=changes)
    config = changed(squares_recipe, iterations=12, log_every=2)
    assert (result.steps, result.recipe, finished.recipe()) == (12, config, config)
    factor = {"base": config.train.lr * 10, "warmup": config.train.warmup}
    rates = [learning_rate(step, 12, **factor) for step in (7, 9, 11)]
    assert [line["lr"] for line in log_lines(finished.folder) if line["step"] > 6] == pytest.approx(rates)
    assert json.loads(finished.environment_file.read_text())["changes"] == [
        {"step": 6, "changed": {"train.iterations": [6, 12], "train.log_every": [1, 2]}}
    ]
    # Six steps are half of twelve: the state's weights.
    assert (finished.half_way_model / "model.safetensors").read_bytes() == last != half_before
    assert "The run goes on after step 6 with train.iterations=12 (was 6)" in caplog.text


def test_a_prolonged_run_that_is_killed_goes_on_to_the_new_length(
    finished: RunFolder, squares_recipe: Recipe, tmp_path
):
    """Killed before its next state, thus with one of the earlier length, it needs no --set any more."""
    other = RunFolder(Path(shutil.copytree(finished.folder, tmp_path / "other")))
    train(None, other.folder, device="cpu", resume=True, changes=["train.iterations=9", "train.save_every=100"])
    trainer = start_training(
        None, finished.folder, device="cpu", resume=True, changes=["train.iterations=9", "train.save_every=100"]
    )
    trainer.train(resume=True, steps=2)
    trainer.run.release()
    assert (trainer.state.step, finished.steps_kept) == (8, 6)
    trainer = start_training(None, finished.folder, device="cpu", resume=True)
    trainer.train(resume=True, steps=100)
    assert trainer.state.step == 9
    assert len(json.loads(finished.environment_file.read_text())["changes"]) == 1
    for name in ("model", "model-best"):
        weights = [(run.folder / name / "model.safetensors").read_bytes() for run in (finished, other)]
        assert weights[0] == weights[1]
    assert finished.recipe() == other.recipe()


def test_changes_that_are_no_length_leave_the_weights(
    uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path
):
    interrupt(squares_recipe, tmp_path / "run", 5)
    changes = ["train.workers=1", "train.save_every=5", "train.validate_every=2", "train.pictures=0"]
    train(None, tmp_path / "run", device="cpu", resume=True, changes=[*changes, "train.gradient_checkpointing=true"])
    assert_same_weights(uninterrupted[1], load_file(tmp_path / "run" / "model" / "model.safetensors"))


@pytest.mark.parametrize("steps", [4, 5])
def test_a_run_is_shortened(squares_recipe: Recipe, tmp_path, steps: int, caplog):
    """To the steps that are done it ends at once; half of a new length that is past is told."""
    run = RunFolder(tmp_path / "run")
    train(changed(squares_recipe, iterations=20), run.folder, device="cpu", steps=4)
    result = train(None, run.folder, device="cpu", resume=True, changes=[f"train.iterations={steps}"])
    assert (result.steps, result.scores is not None, run.model.exists()) == (steps, True, True)
    assert "model-half is not written" in caplog.text


@pytest.mark.parametrize(("change", "kept"), [("train.validate_images=1", False), ("train.log_every=2", True)])
def test_the_best_score_is_judged_anew_on_other_images(finished: RunFolder, change: str, kept: bool):
    trainer = start_training(
        None,
        finished.folder,
        device="cpu",
        resume=True,
        changes=[change, "train.iterations=7", "train.validate_every=100"],
    )
    trainer.train(resume=True, steps=0)
    trainer.run.release()
    assert (trainer.state.best is not None) is kept


def test_a_recipe_edited_by_hand_is_recorded_too(finished: RunFolder):
    finished.recipe_file.write_text(finished.recipe_file.read_text().replace("iterations = 6", "iterations = 7"))
    assert train(None, finished.folder, device="cpu", resume=True).steps == 7
    changes = json.loads(finished.environment_file.read_text())["changes"]
    assert changes == [{"step": 6, "changed": {"train.iterations": [6, 7]}}]
