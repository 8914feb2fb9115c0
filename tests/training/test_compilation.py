"""`train.compile`: same training, warm-up logged once, failures in a sentence."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from trained_runs import Weights, assert_close_weights, changed, log_lines, train_to_weights

from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


@pytest.fixture
def compile_with(monkeypatch: pytest.MonkeyPatch) -> object:
    def use(backend: object) -> None:
        torch._dynamo.reset()
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))

    return use


def test_compiled_training(
    uninterrupted: tuple[Path, Weights], squares_recipe: Recipe, tmp_path: Path, compile_with
) -> None:
    """The traced graph, run without code generation, trains the same weights under the same names."""
    calls = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> object:
        calls.append(graph)
        return graph.forward

    compile_with(backend)
    weights = train_to_weights(changed(squares_recipe, compile=True), tmp_path / "compiled")
    assert calls
    assert_close_weights(uninterrupted[1], weights)
    first, *rest = log_lines(tmp_path / "compiled")
    assert first["compile_s"] > 0
    assert not any("compile_s" in line for line in [*rest, *log_lines(uninterrupted[0])])


def test_a_network_that_cannot_be_compiled(squares_recipe: Recipe, tmp_path: Path, compile_with) -> None:
    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> object:
        raise RuntimeError("no compiler here")

    compile_with(backend)
    with pytest.raises(UserError, match=r"^torch.compile cannot compile this network here \(.*no compiler here.*false"):
        train_to_weights(changed(squares_recipe, compile=True), tmp_path / "run")
