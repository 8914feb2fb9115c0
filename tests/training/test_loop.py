"""Training: learns, resumes bit for bit, and means the same in several micro-batches and processes."""

import json
import math
import multiprocessing
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny_data import CLASSES
from trained_runs import (
    Weights,
    assert_close_weights,
    assert_same_weights,
    changed,
    interrupt,
    log_lines,
    logged_losses,
    train_to_weights,
    without_dropout,
)

from cascade_clip.config.recipes import dump_toml
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.evaluation.scores import scores_from_confusion
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training import loop
from cascade_clip.training.start import start_training

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


def test_run_folder(uninterrupted: tuple[Path, Weights], squares_recipe: Recipe):
    folder, _ = uninterrupted
    environment = json.loads((folder / "environment.json").read_text())
    assert torch.__version__.startswith(environment["packages"]["torch"])
    lines = log_lines(folder)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert all(math.isclose(line["loss"], line["focal"] + line["dice"], rel_tol=1e-9) for line in lines)
    assert lines[0]["lr"] < lines[1]["lr"]
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-2])
    assert 0 <= last["validation"]["miou"] <= 1
    assert sorted(state.name for state in (folder / "state").iterdir()) == ["step-00000004", "step-00000006"]
    assert CascadeCLIP.from_pretrained(folder / "model").recipe == squares_recipe
    assert (folder / "model-best" / "config.json").exists()
    assert not any("visual" in name for name in load_file(folder / "state" / "step-00000006" / "model.safetensors"))


def test_one_seed_decides_everything(uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path):
    assert_same_weights(uninterrupted[1], train_to_weights(changed(squares_recipe, workers=2), tmp_path / "again"))
    other = changed(squares_recipe, iterations=1).model_copy(update={"seed": 1})
    trainer = start_training(other, tmp_path / "other", device="cpu")
    assert trainer.samples.seed == 1
    trainer.train()
    weights = load_file(tmp_path / "other" / "model" / "model.safetensors")
    assert not torch.equal(weights["encoder.prompts.embeddings"], uninterrupted[1]["encoder.prompts.embeddings"])


def test_a_run_stopped_before_its_first_saved_state_starts_anew(
    uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path
):
    interrupt(squares_recipe, tmp_path, 1)
    assert_same_weights(uninterrupted[1], train_to_weights(squares_recipe, tmp_path, resume=True))
    assert [line["step"] for line in log_lines(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_resumed_run_logs_what_an_uninterrupted_one_does(squares_recipe: Recipe, tmp_path):
    """Means over steps on both sides of the state, and a line of the last step."""
    recipe = changed(squares_recipe, log_every=5)
    train_to_weights(recipe, tmp_path / "whole")
    interrupt(recipe, tmp_path / "run", 5)
    train_to_weights(recipe, tmp_path / "run", resume=True)
    assert [line["step"] for line in log_lines(tmp_path / "run")] == [5, 6]
    assert logged_losses(tmp_path / "run") == logged_losses(tmp_path / "whole")


def test_resuming_a_finished_run_changes_nothing(uninterrupted: tuple[Path, Weights], squares_recipe: Recipe):
    folder, weights = uninterrupted
    assert_same_weights(weights, train_to_weights(squares_recipe, folder, resume=True))


def test_gradient_accumulation_keeps_the_batch(squares_recipe: Recipe, tmp_path):
    plain = without_dropout(squares_recipe)
    whole = train_to_weights(plain, tmp_path / "whole")
    assert_close_weights(whole, train_to_weights(changed(plain, micro_batch=3), tmp_path / "parts"))


def test_two_processes_reach_the_same_weights(squares_recipe: Recipe, tmp_path):
    """One of the two writes the log and draws the pictures."""
    plain = changed(without_dropout(squares_recipe), iterations=4, pictures=1)
    whole = train_to_weights(plain, tmp_path / "one")
    (tmp_path / "recipe.toml").write_text(dump_toml(plain))
    command = ["train", "--recipe", tmp_path / "recipe.toml", "--output", tmp_path / "two", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "cascade_clip_cli", *command, "--quiet", "--nproc", "2"],
        capture_output=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert_close_weights(whole, load_file(tmp_path / "two" / "model" / "model.safetensors"))
    assert logged_losses(tmp_path / "two") == pytest.approx(logged_losses(tmp_path / "one"), rel=1e-4)
    pictures = sorted(file.name for file in (tmp_path / "two" / "pictures").iterdir())
    assert pictures == ["curves.png", "validation-000004.jpg"]


def test_learns(squares_recipe: Recipe, tmp_path):
    """Validation pixels are told apart far better than by always naming the most frequent class."""
    recipe = changed(squares_recipe, iterations=80, lr=1e-3, save_every=100)
    scores = start_training(recipe, tmp_path / "run", device="cpu").train()
    assert scores is not None
    majority = max(scores.labelled_pixels) / sum(scores.labelled_pixels)
    assert majority < 0.7
    assert scores.pixel_accuracy > 0.8


def test_bf16_and_gradient_checkpointing(uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path):
    """Recomputed blocks give the same weights; bf16 products come close, and weights stay fp32."""
    recomputed = train_to_weights(changed(squares_recipe, gradient_checkpointing=True), tmp_path / "recomputed")
    assert_close_weights(uninterrupted[1], recomputed, within=1e-5)
    low = train_to_weights(changed(squares_recipe, iterations=2), tmp_path / "bf16", precision="bf16")
    assert all(tensor.dtype == torch.float32 for tensor in low.values())
    assert logged_losses(tmp_path / "bf16")[0] == pytest.approx(logged_losses(uninterrupted[0])[0], rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"crop": 60}}, "training crop of 60 pixels is no multiple of this CLIP's patches of 16"),
        ({"data": {"split": "voc"}}, 'does not hold the classes of the split "voc": it has 3 classes, the split 20'),
        ({"data": {"dataset": None}}, "Say what to train on"),
        ({"text": {"templates": "tests"}}, "is neither a set of text templates nor a file"),
        ({"model": {"stages": ((5,),)}}, "This CLIP has 4 blocks, counted from 1; the stages name [5]"),
    ],
)
def test_what_cannot_start(squares_recipe: Recipe, tmp_path, change: dict, message: str):
    with pytest.raises(UserError, match=re.escape(message)):
        train_to_weights(squares_recipe.changed(**change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_steps_and_validations_are_given(inductive: Recipe, tmp_path, monkeypatch):
    recipe = changed(inductive, gradient_checkpointing=True, validate_images=2)
    own_words = inductive.evaluation.model_copy(update={"templates": "single"})
    trainer = start_training(recipe.model_copy(update={"evaluation": own_words}), tmp_path / "run", device="cpu")
    assert len(trainer._prepare().text) == 1  # of the three classes one is seen
    assert trainer.network.encoder.gradient_checkpointing
    asked: dict[str, object] = {}
    trainer.state.best = 0.2
    trainer.network.train()
    scores = scores_from_confusion([[1, 0, 0]] * 3, (0,), (1, 2), CLASSES)
    monkeypatch.setattr(loop, "evaluate", lambda *_, **given: asked.update(given) or SimpleNamespace(scores=scores))
    trainer._validate()
    assert (asked["limit"], asked["templates"]) == (2, "single")
    assert trainer.network.training
    assert trainer.state.best == scores.miou_seen > 0.2 > scores.miou
    trainer.state.best = None
    trainer.validation = replace(trainer.validation, split=replace(trainer.split, name="another"))
    trainer._validate()
    assert trainer.state.best is None
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert "classes" not in json.loads(line)["validation"]


def test_trackers(squares_recipe: Recipe, tmp_path):
    with pytest.raises(UserError, match=r'"tensorbord" is no experiment tracker\. Did you mean "tensorboard"'):
        start_training(squares_recipe, tmp_path / "a", device="cpu", track="tensorbord")
    with pytest.raises(UserError, match='tracker "swanlab"'):
        start_training(squares_recipe, tmp_path / "b", device="cpu", track="swanlab")
    pytest.importorskip("tensorboard", reason="tensorboard is an optional extra")
    trainer = start_training(changed(squares_recipe, iterations=1), tmp_path / "c", device="cpu", track="tensorboard")
    trainer.train()
    trainer.accelerator.end_training()
    assert list((tmp_path / "c" / "track").rglob("events.out.*"))


def test_an_error_leaves_no_loader_processes(squares_recipe: Recipe, tmp_path):
    """They would hold up the end of this process, which asks them to end as a scheduler does."""

    def fail(step: int) -> None:
        raise ValueError(step)

    run = start_training(changed(squares_recipe, workers=1), tmp_path)
    with pytest.raises(ValueError, match="1") as error:
        run.train(on_step=fail)
    assert error.tb is not None
    assert multiprocessing.active_children() == []
