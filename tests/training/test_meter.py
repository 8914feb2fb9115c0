"""Loss terms that are read a step later are the same terms, and none that is not finite goes unnoticed."""

import math
from pathlib import Path

import pytest
import torch
from trained_runs import Weights, assert_same_weights, log_lines, train_to_weights

from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.training import loop
from cascade_clip.training.meter import Meter


def test_means_and_rate():
    meter = Meter(4, "dice", behind=False)
    assert math.isnan(meter.latest[0])
    meter.add(1, torch.tensor([1.0, 2.0, 0.0]), ["a"])
    meter.add(2, torch.tensor([3.0, 6.0, 0.0]), ["b"])
    assert meter.latest == (3.0, 6.0)
    line = meter.line(0.1)
    assert {name: line[name] for name in ("loss", "focal", "dice", "lr")} == {
        "loss": 6,
        "focal": 2,
        "dice": 4,
        "lr": 0.1,
    }
    assert line["images_per_s"] > 0
    meter.restart()
    assert (meter.rate(), meter.latest) == (0, (3.0, 6.0))


def test_behind():
    """The newest terms wait for the next step, or until they are waited for."""
    meter = Meter(4, "dice", behind=True)
    meter.add(1, torch.tensor([1.0, 2.0, 0.0]), ["a"])
    assert math.isnan(meter.latest[0])
    meter.add(2, torch.tensor([3.0, 4.0, 0.0]), ["b"])
    assert meter.latest == (1.0, 2.0)
    meter.add(3, torch.tensor([5.0, 6.0, 0.0]), ["c"], wait=True)
    assert meter.latest == (5.0, 6.0)
    assert meter.line(0.1)["focal"] == 3


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("behind", [False, True])
def test_not_finite(broken: float, behind: bool):
    meter, terms = Meter(4, "ssim", behind=behind), torch.tensor([broken, 1.0, 0.0])
    if behind:
        meter.add(7, terms, ["a", "b"])
    step, names = (8, ["c"]) if behind else (7, ["a", "b"])
    with pytest.raises(UserError, match=rf"not finite at step 7 \(focal {broken}, ssim 1.0; images: a, b\)"):
        meter.add(step, terms, names)


def test_training_is_the_same(uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path, monkeypatch):
    """As on a GPU: the terms are logged under the same steps, and the weights are the same."""
    monkeypatch.setattr(
        loop,
        "Meter",
        lambda batch, region, *, behind, unlogged: Meter(batch, region, behind=not behind, unlogged=unlogged),
    )
    weights = train_to_weights(squares_recipe.changed(train={"log_every": 3, "save_every": 5}), tmp_path / "run")
    assert_same_weights(uninterrupted[1], weights)
    at_once = [line["loss"] for line in log_lines(uninterrupted[0])]
    expected = {3: sum(at_once[:3]) / 3, 6: sum(at_once[3:]) / 3}
    assert {line["step"]: line["loss"] for line in log_lines(tmp_path / "run")} == pytest.approx(expected)
