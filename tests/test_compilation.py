"""`--compile` and `train.compile`: the same labels and weights, warm-up logged once, failures in a sentence."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from trained_runs import assert_close_weights, changed, log_lines, train_to_weights
from two_blocks import two_block_model

from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError

Graphs = list[torch.fx.GraphModule]


@pytest.fixture
def graphs(monkeypatch) -> Graphs:
    """Traced graphs, which run without code generation: what takes minutes is not what is tested."""
    traced: Graphs = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Callable[..., object]:
        traced.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return traced


@pytest.mark.slow  # it compiles
def test_labels_and_checkpoint_stay_the_same(tiny_recipe: Recipe, tmp_path, graphs: Graphs):
    """Images of one, two and three windows: nothing is traced again after the warm-up."""
    plain, ours = (two_block_model(tiny_recipe, tmp_path) for _ in range(2))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (64, width, 3), np.uint8) for width in (64, 100, 160)]
    expected = plain.segment(images, split=plain.split)
    assert not graphs
    text = ours.text_embeddings_for(ours.split)
    assert ours.compile(text) > 0
    warmed = len(graphs)
    assert warmed
    for one, other in zip(expected, ours.segment(images, split=ours.split), strict=True):
        assert np.array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
    assert len(graphs) == warmed
    assert type(ours.network) is type(plain.network)
    ours.save_pretrained(tmp_path / "saved")
    assert ours.network.own_tensors().keys() == plain.network.own_tensors().keys()


@pytest.mark.slow  # it trains
def test_compiled_training(squares_recipe: Recipe, tmp_path, graphs: Graphs):
    weights = train_to_weights(squares_recipe, tmp_path / "plain")
    assert_close_weights(weights, train_to_weights(changed(squares_recipe, compile=True), tmp_path / "compiled"))
    assert graphs
    first, *rest = log_lines(tmp_path / "compiled")
    assert first["compile_s"] > 0
    assert not any("compile_s" in line for line in [*rest, *log_lines(tmp_path / "plain")])


@pytest.mark.slow  # it compiles
def test_a_network_that_cannot_be_compiled(squares_recipe: Recipe, tmp_path, monkeypatch):
    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> object:
        raise RuntimeError("no compiler here")

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    model = two_block_model(squares_recipe, tmp_path)
    with pytest.raises(UserError, match=r"^torch.compile cannot compile .*no compiler here.*: leave --compile out\.$"):
        model.compile(model.text_embeddings_for(model.split))
    with pytest.raises(UserError, match=r"cannot compile this network here .*no compiler here.*train\.compile=false"):
        train_to_weights(changed(squares_recipe, compile=True), tmp_path / "run")
