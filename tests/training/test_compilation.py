"""`train.compile`: same training, warm-up told once, failures in a sentence."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cascade_clip import compilation
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.training.start import start_training


@pytest.fixture
def recipe(squares_recipe: Recipe) -> Recipe:
    config = squares_recipe.train.model_copy(update={"iterations": 2})
    return squares_recipe.model_copy(update={"train": config})


def _compiling(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"compile": True})})


def _lines(folder: Path) -> list[dict]:
    entries = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in entries if "loss" in line]


def test_compiled_training(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traced graph, run without code generation, trains the same weights under the same names."""
    calls = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> object:
        calls.append(graph)
        return graph.forward

    monkeypatch.setattr(compilation.torch, "compile", partial(torch.compile, backend=backend))
    start_training(recipe, tmp_path / "plain", device="cpu").train()
    assert not calls
    torch._dynamo.reset()
    start_training(_compiling(recipe), tmp_path / "compiled", device="cpu").train()
    assert calls
    plain, ours = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("plain", "compiled"))
    assert plain.keys() == ours.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    first, second = _lines(tmp_path / "compiled")
    assert first["compile_s"] > 0
    assert "compile_s" not in second
    assert not any("compile_s" in line for line in _lines(tmp_path / "plain"))


def test_a_network_that_cannot_be_compiled(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> object:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compilation.torch, "compile", partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    with pytest.raises(UserError, match=r"^torch.compile cannot compile this network here \(.*no compiler here.*false"):
        start_training(_compiling(recipe), tmp_path / "run", device="cpu").train()
