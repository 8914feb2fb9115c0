"""Loss terms that are read a step later are the same terms, and none that is not finite goes unnoticed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.training import loop
from cascade_clip.training.loss_reading import LossReader, Meter
from cascade_clip.training.start import start_training


def test_at_once() -> None:
    reader = LossReader("dice", behind=False)
    reader.add(1, torch.tensor([1.0, 2.0]), ["a"])
    assert reader.read(everything=False) == [(1.0, 2.0)]
    assert reader.read(everything=True) == []


def test_behind() -> None:
    """The newest terms wait for the next step, or until all are asked for; each is given once, in order."""
    reader = LossReader("dice", behind=True)
    reader.add(1, torch.tensor([1.0, 2.0]), ["a"])
    assert reader.read(everything=False) == []
    reader.add(2, torch.tensor([3.0, 4.0]), ["b"])
    assert reader.read(everything=False) == [(1.0, 2.0)]
    reader.add(3, torch.tensor([5.0, 6.0]), ["c"])
    assert reader.read(everything=True) == [(3.0, 4.0), (5.0, 6.0)]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_not_finite(broken: float) -> None:
    message = rf"not finite at step 7 \(focal {broken}, ssim 1.0; images: a, b\)"
    with pytest.raises(UserError, match=message):
        LossReader("ssim", behind=False).add(7, torch.tensor([broken, 1.0]), ["a", "b"])
    reader = LossReader("ssim", behind=True)
    reader.add(7, torch.tensor([broken, 1.0]), ["a", "b"])
    with pytest.raises(UserError, match=message):
        reader.add(8, torch.ones(2), ["c"])


def test_meter() -> None:
    meter = Meter(4, "dice")
    meter.add([])
    assert math.isnan(meter.latest[0])
    meter.add([(1.0, 2.0), (3.0, 6.0)])
    assert meter.latest == (3.0, 6.0)
    assert meter.means() == {"loss": 6.0, "focal": 2.0, "dice": 4.0}
    assert meter.rate() > 0
    meter.restart()
    assert meter.rate() == 0
    assert meter.latest == (3.0, 6.0)


def test_training_is_the_same(squares_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: the terms are logged under the same steps, and the weights are the same."""
    config = squares_recipe.train.model_copy(update={"log_every": 4, "save_every": 5})
    recipe = squares_recipe.model_copy(update={"train": config})
    start_training(recipe, tmp_path / "at-once", device="cpu").train()
    real = loop.LossReader
    monkeypatch.setattr(loop, "LossReader", lambda region, *, behind: real(region, behind=not behind))
    start_training(recipe, tmp_path / "behind", device="cpu").train()
    weights, lines = [], []
    for run in ("at-once", "behind"):
        weights.append(load_file(tmp_path / run / "model" / "model.safetensors"))
        entries = map(json.loads, (tmp_path / run / "metrics.jsonl").read_text().splitlines())
        lines.append([{k: line[k] for k in ("step", "loss", "focal")} for line in entries if "loss" in line])
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0]] == [4, 6]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_nothing_broken_is_kept(squares_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read late, the error still names its own step and comes before a state is saved."""
    loss, calls = loop.segmentation_loss, []

    def broken(logits: torch.Tensor, *given: object, **options: object) -> object:
        calls.append(1)
        return loss(logits * float("nan") if len(calls) == 4 else logits, *given, **options)

    config = squares_recipe.train.model_copy(update={"log_every": 50, "save_every": 2})
    reader = loop.LossReader
    monkeypatch.setattr(loop, "LossReader", lambda region, *, behind: reader(region, behind=True))
    monkeypatch.setattr(loop, "segmentation_loss", broken)
    with pytest.raises(UserError, match="not finite at step 4"):
        start_training(squares_recipe.model_copy(update={"train": config}), tmp_path / "run", device="cpu").train()
    assert [state.name for state in (tmp_path / "run" / "state").iterdir()] == ["step-00000002"]
