"""Training: learns, resumes bit for bit after a kill, and means the same on several processes."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trained_runs import assert_close_weights, assert_same_weights, logged_losses, train_to_weights

from cascade_clip.config.recipes import dump_toml
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training import loop
from cascade_clip.training.start import start_training

PLAIN = ["-m", "cascade_clip_cli", "train", "--device", "cpu", "--quiet"]


def _changed(recipe: Recipe, **train: object) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=train)})


def _without_dropout(recipe: Recipe) -> Recipe:
    model = recipe.model
    prompts = model.prompts.model_copy(update={"dropout": 0.0})
    decoder = model.decoder.model_copy(update={"dropout": 0.0})
    return recipe.model_copy(update={"model": model.model_copy(update={"prompts": prompts, "decoder": decoder})})


def _command(recipe: Recipe, folder: Path, *more: str) -> list[str]:
    file = folder.parent / f"{folder.name}.toml"
    file.write_text(dump_toml(recipe))
    return [sys.executable, *PLAIN, "--recipe", str(file), "--output", str(folder), *more]


@pytest.fixture(scope="module")
def uninterrupted(
    squares_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    return folder, train_to_weights(squares_recipe, folder)


def test_run_folder(uninterrupted: tuple[Path, dict], squares_recipe: Recipe) -> None:
    folder, _ = uninterrupted
    environment = json.loads((folder / "environment.json").read_text())
    assert torch.__version__.startswith(environment["packages"]["torch"])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    train_lines = [line for line in lines if "loss" in line]
    assert [line["step"] for line in train_lines] == [1, 2, 3, 4, 5, 6]
    assert all(math.isclose(line["loss"], line["focal"] + line["dice"], rel_tol=1e-9) for line in train_lines)
    assert train_lines[0]["lr"] < train_lines[1]["lr"]
    (validation,) = [line["validation"] for line in lines if "validation" in line]
    assert 0 <= validation["miou"] <= 1
    assert sorted(state.name for state in (folder / "state").iterdir()) == ["step-00000004", "step-00000006"]
    assert CascadeCLIP.from_pretrained(folder / "model").recipe == squares_recipe
    assert (folder / "model-best" / "config.json").exists()
    assert not any("visual" in name for name in load_file(folder / "state" / "step-00000006" / "model.safetensors"))


def test_one_seed_decides_everything(uninterrupted: tuple[Path, dict], squares_recipe: Recipe, tmp_path: Path) -> None:
    assert_same_weights(uninterrupted[1], train_to_weights(_changed(squares_recipe, workers=2), tmp_path / "again"))
    other = train_to_weights(squares_recipe.model_copy(update={"seed": 1}), tmp_path / "other")
    assert not torch.equal(other["encoder.prompts.embeddings"], uninterrupted[1]["encoder.prompts.embeddings"])


@pytest.mark.parametrize("killed_after", [2, 3, 5])
def test_resume_after_sigkill_is_bit_exact(
    uninterrupted: tuple[Path, dict], squares_recipe: Recipe, tmp_path: Path, killed_after: int
) -> None:
    """Killed before, between and after saved states; dropout and augmentation go on as they were."""
    folder = tmp_path / "run"
    watcher = tmp_path / "killed.py"
    watcher.write_text(
        "import os, pathlib, signal, sys\n"
        "from cascade_clip.config.recipes import load_recipe\n"
        "from cascade_clip.training.start import start_training\n"
        "def watch(report):\n"
        f"    if report.step == {killed_after}:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "recipe, folder = load_recipe(sys.argv[1]), pathlib.Path(sys.argv[2])\n"
        "start_training(recipe, folder, device='cpu', watch=watch).train()\n"
    )
    recipe_file = tmp_path / "recipe.toml"
    recipe_file.write_text(dump_toml(squares_recipe))
    killed = subprocess.run([sys.executable, watcher, recipe_file, folder], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (folder / "model").exists()
    assert_same_weights(uninterrupted[1], train_to_weights(squares_recipe, folder, resume=True))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]


def test_gradient_accumulation_keeps_the_batch(squares_recipe: Recipe, tmp_path: Path) -> None:
    plain = _without_dropout(squares_recipe)
    whole = train_to_weights(plain, tmp_path / "whole")
    parts = train_to_weights(_changed(plain, micro_batch=3), tmp_path / "parts")
    assert_close_weights(whole, parts)


@pytest.mark.parametrize("launcher", ["--nproc", "accelerate"])
def test_two_processes_reach_the_same_weights(squares_recipe: Recipe, tmp_path: Path, launcher: str) -> None:
    plain = _without_dropout(squares_recipe)
    whole = train_to_weights(plain, tmp_path / "one")
    command = _command(plain, tmp_path / "two")
    if launcher == "--nproc":
        command += ["--nproc", "2"]
    else:
        launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
        launch += ["--mixed_precision", "no", "--dynamo_backend", "no"]
        command = [command[0], *launch, *command[1:]]
    done = subprocess.run(command, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    two = load_file(tmp_path / "two" / "model" / "model.safetensors")
    assert_close_weights(whole, two)
    single = [json.loads(line) for line in (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()]
    double = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    for ours, theirs in zip(single, double, strict=True):
        if "loss" in ours:
            assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-4)


def test_learns(squares_recipe: Recipe, tmp_path: Path) -> None:
    """Validation pixels are told apart far better than by always naming the most frequent class."""
    recipe = _changed(squares_recipe, iterations=100, lr=1e-3, save_every=100)
    scores = start_training(recipe, tmp_path / "run", device="cpu").train()
    assert scores is not None
    majority = max(scores.labelled_pixels) / sum(scores.labelled_pixels)
    assert majority < 0.7
    assert scores.pixel_accuracy > 0.8


def test_bf16_and_gradient_checkpointing(
    uninterrupted: tuple[Path, dict], squares_recipe: Recipe, tmp_path: Path
) -> None:
    """Recomputed blocks give the same weights; bf16 products come close and stay fp32 weights."""
    recomputed = train_to_weights(_changed(squares_recipe, gradient_checkpointing=True), tmp_path / "recomputed")
    for name, tensor in recomputed.items():
        torch.testing.assert_close(tensor, uninterrupted[1][name], rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    low = train_to_weights(squares_recipe, tmp_path / "bf16", precision="bf16")
    assert all(tensor.dtype == torch.float32 for tensor in low.values())
    first, last = (logged_losses(folder)[0] for folder in (uninterrupted[0], tmp_path / "bf16"))
    assert last == pytest.approx(first, rel=0.05)


def test_loss_that_is_not_finite(squares_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = loop.segmentation_loss, []

    def broken(logits: torch.Tensor, *given: object, **options: object) -> object:
        calls.append(1)
        return real(logits * float("nan") if len(calls) == 3 else logits, *given, **options)

    monkeypatch.setattr(loop, "segmentation_loss", broken)
    with pytest.raises(UserError) as caught:
        train_to_weights(squares_recipe, tmp_path / "run")
    assert "The loss is not finite at step 3" in str(caught.value)
    assert sum(f"t{i}" in str(caught.value) for i in range(10)) >= 3
    assert not (tmp_path / "run" / "model").exists()


def test_a_second_start(uninterrupted: tuple[Path, dict], squares_recipe: Recipe, tmp_path: Path) -> None:
    folder, _ = uninterrupted
    with pytest.raises(
        UserError, match=r"A run lies in .* already: continue it with --resume, start it anew with --overwrite"
    ):
        start_training(squares_recipe, folder, device="cpu")
    with pytest.raises(UserError, match="so there is nothing to resume"):
        start_training(squares_recipe, tmp_path / "none", device="cpu", resume=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("")
    with pytest.raises(UserError, match="is not empty and no run"):
        start_training(squares_recipe, tmp_path / "photos", device="cpu", overwrite=True)


def test_resuming_a_finished_run_changes_nothing(uninterrupted: tuple[Path, dict], squares_recipe: Recipe) -> None:
    folder, weights = uninterrupted
    assert_same_weights(weights, train_to_weights(squares_recipe, folder, resume=True))


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
def test_what_cannot_start(squares_recipe: Recipe, tmp_path: Path, change: dict, message: str) -> None:
    ((section, values),) = change.items()
    recipe = squares_recipe.model_copy(update={section: getattr(squares_recipe, section).model_copy(update=values)})
    with pytest.raises(UserError) as caught:
        train_to_weights(recipe, tmp_path / "run")
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_trackers(squares_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'"tensorbord" is no experiment tracker\. Did you mean "tensorboard"'):
        start_training(squares_recipe, tmp_path / "a", device="cpu", track="tensorbord")
    with pytest.raises(UserError, match='tracker "swanlab"'):
        start_training(squares_recipe, tmp_path / "b", device="cpu", track="swanlab")
    pytest.importorskip("tensorboard", reason="tensorboard is an optional extra")
    trainer = start_training(_changed(squares_recipe, iterations=1), tmp_path / "c", device="cpu", track="tensorboard")
    trainer.train()
    trainer.accelerator.end_training()
    assert list((tmp_path / "c" / "track").rglob("events.out.*"))
