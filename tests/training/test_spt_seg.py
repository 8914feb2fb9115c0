"""SPT-SEG from recipe to predictions: which loss it trains with, resuming, precision, other grids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cascade_clip.config.recipes import load_recipe
from cascade_clip.config.schema import LossConfig, Recipe
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training.start import start_training

PIXELS = np.random.default_rng(0).integers(0, 255, (70, 110, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=["plain", "cascaded"])
def spt_recipe(request: pytest.FixtureRequest, squares_recipe: Recipe) -> Recipe:
    model = squares_recipe.model
    changes = {"host": "spt-seg", "decoder": model.decoder.model_copy(update={"heads": 8, "gate": "open"})}
    changes["spectral"] = model.spectral.model_copy(update={"grid": 4})
    if request.param == "plain":
        changes["stages"] = ((4,),)
    return squares_recipe.model_copy(update={"name": request.param, "model": model.model_copy(update=changes)})


def _train(recipe: Recipe, folder: Path, **options: object) -> dict[str, torch.Tensor]:
    start_training(recipe, folder, device="cpu", **options).train(resume=bool(options.get("resume")))
    return load_file(folder / "model" / "model.safetensors")


def _lines(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def test_the_host_decides_the_loss_unless_the_recipe_does(spt_recipe: Recipe, squares_recipe: Recipe) -> None:
    assert spt_recipe.region_loss == "ssim"
    assert squares_recipe.region_loss == "dice"
    assert spt_recipe.model_copy(update={"loss": LossConfig(region="dice")}).region_loss == "dice"
    assert load_recipe("voc/zegclip", ["loss.region=ssim"]).region_loss == "ssim"


def test_from_training_to_prediction(spt_recipe: Recipe, tmp_path: Path) -> None:
    """Terms are logged by name, a run resumes to the same weights, and the checkpoint predicts as the model did."""
    whole = _train(spt_recipe, tmp_path / "whole")
    lines = _lines(tmp_path / "whole")
    assert len(lines) == 6
    for line in lines:
        assert line["loss"] == pytest.approx(line["focal"] + line["ssim"])
        assert 0 < line["ssim"] < 2
        assert "dice" not in line
    half = spt_recipe.model_copy(update={"train": spt_recipe.train.model_copy(update={"save_every": 3})})
    stopped = start_training(half, tmp_path / "half", device="cpu", watch=_stop_after(4))
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    resumed = _train(half, tmp_path / "half", resume=True)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())
    model = CascadeCLIP.from_pretrained(tmp_path / "whole" / "model")
    again = CascadeCLIP.from_pretrained(tmp_path / "half" / "model")
    results = [loaded.segment(PIXELS, ["red", "green", "blue"])[0] for loaded in (model, again)]
    assert np.array_equal(results[0].scores, results[1].scores)


def _stop_after(step: int) -> object:
    def watch(report: object) -> None:
        if report.step == step:
            raise KeyboardInterrupt

    return watch


def test_gradient_accumulation_keeps_the_batch(spt_recipe: Recipe, tmp_path: Path) -> None:
    """Also where the parts are of unequal size, which SSIM's mean has to be told."""
    model = spt_recipe.model
    calm = {
        "prompts": model.prompts.model_copy(update={"dropout": 0.0}),
        "decoder": model.decoder.model_copy(update={"dropout": 0.0}),
    }
    plain = spt_recipe.model_copy(update={"model": model.model_copy(update=calm)})
    whole = _train(plain, tmp_path / "whole")
    parts = plain.model_copy(update={"train": plain.train.model_copy(update={"micro_batch": 3})})
    for name, tensor in _train(parts, tmp_path / "parts").items():
        torch.testing.assert_close(tensor, whole[name], rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_bf16(spt_recipe: Recipe, tmp_path: Path) -> None:
    """Weights stay fp32, the loss comes close, and predictions run in bf16 too."""
    low = _train(spt_recipe, tmp_path / "bf16", precision="bf16")
    _train(spt_recipe, tmp_path / "fp32")
    assert all(tensor.dtype == torch.float32 for tensor in low.values())
    assert _lines(tmp_path / "bf16")[0]["loss"] == pytest.approx(_lines(tmp_path / "fp32")[0]["loss"], rel=0.05)
    model = CascadeCLIP.from_pretrained(tmp_path / "bf16" / "model", precision="bf16")
    assert model.segment(PIXELS, ["red", "green", "blue"])[0].scores.dtype == np.float32


def test_learns(spt_recipe: Recipe, tmp_path: Path) -> None:
    """Validation pixels are told apart far better than by always naming the most frequent class."""
    train = spt_recipe.train.model_copy(update={"iterations": 100, "lr": 1e-3, "save_every": 100})
    scores = start_training(spt_recipe.model_copy(update={"train": train}), tmp_path / "run", device="cpu").train()
    assert scores is not None
    majority = max(scores.labelled_pixels) / sum(scores.labelled_pixels)
    assert majority < 0.7
    assert scores.pixel_accuracy > 0.8


def test_windows_of_another_size_than_trained_on(spt_recipe: Recipe, tmp_path: Path) -> None:
    """The weight is made for 4 x 4 patches; windows of 3 x 3 and whole images of 5 x 7 do as well."""
    train = spt_recipe.train.model_copy(update={"iterations": 1})
    _train(spt_recipe.model_copy(update={"train": train}), tmp_path / "run")
    model = CascadeCLIP.from_pretrained(tmp_path / "run" / "model")
    usual = model.segment(PIXELS, ["red", "green", "blue"])[0].scores
    for crop, stride in ((48, 32), (512, 426)):
        inference = model.recipe.inference.model_copy(update={"crop": crop, "stride": stride})
        model.recipe = model.recipe.model_copy(update={"inference": inference})
        scores = model.segment(PIXELS, ["red", "green", "blue"])[0].scores
        assert scores.shape == usual.shape
        assert np.isfinite(scores).all()
        assert not np.array_equal(scores, usual)
