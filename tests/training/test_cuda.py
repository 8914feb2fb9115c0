"""Training on a CUDA device: the CPU's losses, bit-exact resume, half precision, the compiled step."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trained_runs import assert_same_weights, changed, logged_losses, train_to_weights, without_dropout

from cascade_clip.config.schema import Recipe
from cascade_clip.training.start import start_training

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
    pytest.mark.slow,
]


def _on_cuda(recipe: Recipe, folder: Path, **options: object) -> list[float]:
    """Losses of the run's steps."""
    start_training(recipe, folder, device="cuda", **options).train(resume=bool(options.get("resume")))
    return logged_losses(folder)


def test_losses_are_those_of_the_cpu(squares_recipe: Recipe, tmp_path):
    recipe = without_dropout(squares_recipe)
    train_to_weights(recipe, tmp_path / "cpu")
    assert _on_cuda(recipe, tmp_path / "cuda") == pytest.approx(logged_losses(tmp_path / "cpu"), rel=2e-3)


def test_a_stopped_run_ends_where_it_would_have(squares_recipe: Recipe, tmp_path):
    _on_cuda(squares_recipe, tmp_path / "whole")
    start_training(squares_recipe, tmp_path / "stopped", device="cuda").train(steps=3)
    _on_cuda(squares_recipe, tmp_path / "stopped", resume=True)
    weights = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "stopped"))
    assert_same_weights(*weights)


# With fp16 the first steps are left out, until the scale of the loss fits.
@pytest.mark.parametrize(("precision", "within"), [("bf16", 0.1), ("fp16", 0.5)])
def test_half_precision_learns_as_single_does(precision: str, within: float, squares_recipe: Recipe, tmp_path):
    recipe = changed(without_dropout(squares_recipe), iterations=20, lr=1e-3)
    half, single = _on_cuda(recipe, tmp_path / "half", precision=precision), _on_cuda(recipe, tmp_path / "single")
    assert all(map(math.isfinite, half))
    assert half[0] == pytest.approx(single[0], rel=0.02)
    assert half[-1] == pytest.approx(single[-1], rel=within)
    assert half[-1] < half[0]


def test_the_compiled_step(squares_recipe: Recipe, tmp_path):
    recipe = without_dropout(squares_recipe)
    plain, compiled = (
        _on_cuda(recipe, tmp_path / "plain"),
        _on_cuda(changed(recipe, compile=True), tmp_path / "compiled"),
    )
    assert compiled == pytest.approx(plain, rel=2e-3)
