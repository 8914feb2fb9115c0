"""`train.cache_features`: a frozen encoder sees each crop once, and the weights are those of a run without it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from trained_runs import assert_close_weights, assert_same_weights, logged_losses, train_to_weights

from cascade_clip.config.recipes import change_recipe, dump_toml
from cascade_clip.config.schema import Recipe
from cascade_clip.data.samples import View
from cascade_clip.errors import UserError
from cascade_clip.model.clip.image_encoder import ImageEncoder
from cascade_clip.training import feature_cache
from cascade_clip.training.batches import StepBatches
from cascade_clip.training.start import start_training

FROZEN = ['model.host="frozen-clip"', "model.decoder.dropout=0.0", "data.views=2", "train.iterations=8"]
CACHED = [*FROZEN, "train.cache_features=true"]


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images that the encoder is given, a number a call; validation is left out."""
    seen: list[int] = []
    real = ImageEncoder.forward

    def counting(self: ImageEncoder, image: torch.Tensor, *rest: object) -> object:
        seen.append(len(image))
        return real(self, image, *rest)

    monkeypatch.setattr(ImageEncoder, "forward", counting)
    monkeypatch.setattr("cascade_clip.training.loop.Trainer._validate", lambda self: None)
    return seen


def test_the_same_training_with_each_crop_encoded_once(
    squares_recipe: Recipe, tmp_path: Path, encoded: list[int]
) -> None:
    """8 steps of 4 images are 32 crops of 10 images with 2 views each: 20 different ones."""
    computed = train_to_weights(change_recipe(squares_recipe, FROZEN), tmp_path / "computed")
    assert sum(encoded) == 32
    encoded.clear()
    kept = train_to_weights(change_recipe(squares_recipe, CACHED), tmp_path / "kept")
    assert sum(encoded) == 20
    assert_close_weights(computed, kept)
    assert logged_losses(tmp_path / "kept") == pytest.approx(logged_losses(tmp_path / "computed"), rel=1e-5)
    assert not (tmp_path / "kept" / "features").exists()


def test_an_interrupted_run_encodes_nothing_again(squares_recipe: Recipe, tmp_path: Path, encoded: list[int]) -> None:
    class Interrupted(Exception):  # noqa: N818
        pass

    def stop(report: object) -> None:
        if report.step == 5:  # type: ignore[attr-defined]
            raise Interrupted

    recipe, folder = change_recipe(squares_recipe, [*CACHED, "model.decoder.dropout=0.1"]), tmp_path / "run"
    whole = train_to_weights(recipe, tmp_path / "whole")
    encoded.clear()
    with pytest.raises(Interrupted):
        start_training(recipe, folder, device="cpu", watch=stop).train()
    assert len(list((folder / "features").iterdir())) == sum(encoded) == 20
    cache = start_training(recipe, folder, device="cpu", resume=True).batches.cache
    assert cache is not None
    assert cache.missing(range(32)) == []
    lost = cache.file(View(3, 1))
    lost.rename(tmp_path / lost.name)
    (position,) = cache.missing(range(32))
    assert cache.samples.view_at(position) == View(3, 1)
    (tmp_path / lost.name).rename(lost)
    encoded.clear()
    resumed = train_to_weights(recipe, folder, resume=True)
    assert not encoded
    assert_same_weights(whole, resumed)


def test_only_what_is_asked_for_is_encoded(squares_recipe: Recipe, tmp_path: Path, encoded: list[int]) -> None:
    train_to_weights(
        change_recipe(squares_recipe, [*CACHED, "train.iterations=2", "train.micro_batch=3"]), tmp_path / "run"
    )
    assert encoded == [3, 3, 2]


def test_self_training_and_half_precision(squares_recipe: Recipe, tmp_path: Path, encoded: list[int]) -> None:
    """Teachers guess from kept features too; bf16 keeps them in half the room, rounded as its products are."""
    split = tmp_path / "no-blue.toml"
    split.write_text(
        'dataset = "squares"\nclasses = [{ name = "red" }, { name = "green" }, { name = "blue" }]\n'
        '[splits.no-blue]\nunseen = ["blue"]\n'
    )
    recipe = change_recipe(squares_recipe, [*FROZEN, f"data.split={json.dumps(str(split))}"])
    train_to_weights(recipe, tmp_path / "start")
    settings = [f"self_training.init={json.dumps(str(tmp_path / 'start' / 'model'))}"]
    for teacher in ("self", "fixed", "moving-average"):
        taught = change_recipe(recipe, [*settings, f'self_training.teacher="{teacher}"', "train.iterations=3"])
        computed = train_to_weights(taught, tmp_path / teacher)
        encoded.clear()
        kept = train_to_weights(change_recipe(taught, ["train.cache_features=true"]), tmp_path / f"{teacher}-kept")
        assert sum(encoded) == 12
        assert_close_weights(computed, kept)
    cached = change_recipe(recipe, ["train.cache_features=true"])
    train_to_weights(cached, tmp_path / "bf16", precision="bf16")
    train_to_weights(recipe, tmp_path / "bf16-computed", precision="bf16")
    assert logged_losses(tmp_path / "bf16") == pytest.approx(logged_losses(tmp_path / "bf16-computed"), rel=1e-2)


def test_two_processes_share_the_encoding(squares_recipe: Recipe, tmp_path: Path) -> None:
    recipe = change_recipe(squares_recipe, CACHED)
    whole = train_to_weights(recipe, tmp_path / "one")
    file = tmp_path / "recipe.toml"
    file.write_text(dump_toml(recipe))
    command = ["-m", "cascade_clip_cli", "train", "--device", "cpu", "--quiet", "--nproc", "2", "--recipe", str(file)]
    two = [sys.executable, *command, "--output", str(tmp_path / "two")]
    done = subprocess.run(two, capture_output=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert_close_weights(whole, load_file(tmp_path / "two" / "model" / "model.safetensors"))
    assert not (tmp_path / "two" / "features").exists()


def test_compiled(squares_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = change_recipe(squares_recipe, [*CACHED, "train.iterations=2"])
    plain = train_to_weights(recipe, tmp_path / "plain")
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    assert_close_weights(plain, train_to_weights(change_recipe(recipe, ["train.compile=true"]), tmp_path / "compiled"))


def test_views_come_again_and_differ(squares_recipe: Recipe, squares: Path, tmp_path: Path) -> None:
    trainer = start_training(change_recipe(squares_recipe, FROZEN), tmp_path / "run", device="cpu")
    samples = trainer.batches.samples
    count = len(samples)
    at = {samples.view_at(position): position for position in range(2 * count)}
    assert len(at) == 2 * count
    later = {samples.view_at(position): position for position in range(2 * count, 4 * count)}
    for view, position in at.items():
        again, other = samples[later[view]], samples[at[view._replace(number=1 - view.number)]]
        assert torch.equal(samples[position]["image"], again["image"])
        assert torch.equal(samples[position]["label"], again["label"])
        assert not torch.equal(again["image"], other["image"])
    new = start_training(squares_recipe, tmp_path / "new", device="cpu").batches.samples
    assert new.view_at(0) is None


def test_no_room(squares_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 patches x 32 channels x 4 blocks x 4 bytes and 64 x 64 labels a crop: 12,288 bytes, 240 KiB for 20."""
    monkeypatch.setattr(feature_cache, "GIBIBYTE", 1024)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=239 * 1024))
    with pytest.raises(UserError) as caught:
        train_to_weights(change_recipe(squares_recipe, CACHED), tmp_path / "run")
    assert f'The features of 20 crops take 240.0 GiB, and "{tmp_path / "run" / "features"}" has 239.0 GiB left' in str(
        caught.value
    )
    assert "use fewer data.views, --precision bf16 or another --output" in str(caught.value)


def test_damaged_features(squares_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damage(self: StepBatches, start: int = 0) -> object:
        for file in self.cache.folder.glob("*"):
            file.write_bytes(b"nonsense")
        return real(self, start)

    recipe, real = change_recipe(squares_recipe, CACHED), StepBatches.loader
    trainer = start_training(recipe, tmp_path / "run", device="cpu")
    monkeypatch.setattr(StepBatches, "loader", damage)
    with pytest.raises(UserError, match=r"cannot be read .*: delete .*features\" and continue the run with --resume"):
        trainer.train()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (['model.host="frozen-clip"', "train.cache_features=true"], "say how many an image has, for example with"),
        (["data.views=2", "train.cache_features=true"], "needs an encoder in which nothing trains: host frozen-clip"),
        ([*CACHED, "model.prompt_norm=true"], "needs an encoder in which nothing trains"),
        ([*CACHED, "model.stage_projection.train=true"], "needs an encoder in which nothing trains"),
        (["data.views=2", "data.stream=true"], "a stream cannot find the crops of an image again: leave views out"),
    ],
)
def test_what_cannot_be_kept(squares_recipe: Recipe, settings: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        change_recipe(squares_recipe, settings)
    assert message in str(caught.value)
    assert "(got {" not in str(caught.value)
