"""Linear layers by oneDNN: equal to PyTorch's within rounding where they are routed, and nothing else is."""

import json
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode
from trained_runs import assert_same_weights, changed, interrupt, train_to_weights

from cascade_clip import CascadeCLIP, faster_linear
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch has no oneDNN here")


@pytest.fixture(autouse=True)
def not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faster_linear, "_chosen", None)
    monkeypatch.delenv(faster_linear.VARIABLE, raising=False)


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Every product by oneDNN, however small; the shapes of what was multiplied there."""
    seen: list[tuple[int, ...]] = []
    product = faster_linear.onednn_linear

    def counted(tokens: Tensor, *others: Tensor) -> Tensor:
        seen.append(tuple(tokens.shape))
        return product(tokens, *others)

    monkeypatch.setattr(faster_linear, "onednn_linear", counted)
    monkeypatch.setattr(faster_linear, "LEAST_PRODUCTS", 1)
    faster_linear.choose("onednn")
    yield seen
    monkeypatch.setattr(faster_linear, "_chosen", None)


def given(*, bias: bool = True) -> tuple[Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    tokens, weight = (torch.randn(*shape, generator=generator) for shape in ((2, 9, 24), (40, 24)))
    return tokens, weight, torch.randn(40, generator=generator) if bias else None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "view",
    [lambda x, w: (x, w), lambda x, w: (x[0], w), lambda x, w: (x.transpose(0, 1), w), lambda x, w: (x[:, 3:], w[8:])],
)
def test_products_and_gradients_are_equal_within_rounding(
    view: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], bias: bool, routed: list[tuple[int, ...]]
):
    results = []
    for linear in (F.linear, faster_linear.linear):
        tokens, weight, added = (x if x is None else x.requires_grad_() for x in given(bias=bias))
        assert tokens is not None
        assert weight is not None
        some, rows = view(tokens, weight)
        product = linear(some, rows, None if added is None else added[: len(rows)])
        product.square().sum().backward()
        results.append([product, tokens.grad, weight.grad, *([] if added is None else [added.grad])])
    assert len(routed) == 3
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_frozen_weights_keep_no_tokens(routed: list[tuple[int, ...]]):
    tokens, weight, bias = given()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        faster_linear.linear(tokens.requires_grad_(), weight, bias)
    assert kept == [weight.numel()]
    with torch.no_grad():
        faster_linear.linear(tokens, weight, bias)
    assert len(routed) == 2


def as_they_are(x: Tensor, w: Tensor) -> Tensor:
    return faster_linear.linear(x, w)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: as_they_are(x.double(), w.double()),
        lambda x, w: as_they_are(x.bfloat16(), w.bfloat16()),
        lambda x, w: as_they_are(x.to("meta"), w.to("meta")),
        lambda x, w: torch.autocast("cpu", torch.bfloat16)(as_they_are)(x, w),
    ],
)
def test_everything_else_is_pytorchs(call: Callable[[Tensor, Tensor], Tensor], routed: list[tuple[int, ...]]):
    tokens, weight, _ = given()
    call(tokens, weight)
    with FlopCounterMode(display=False) as counter:
        faster_linear.linear(tokens, weight)
    assert counter.get_total_flops() == 2 * 18 * 24 * 40
    assert routed == []


def test_small_layers_and_slower_processors_keep_pytorchs_bits(monkeypatch):
    tokens, weight, bias = given()
    monkeypatch.setattr(faster_linear, "onednn_linear", lambda *_: pytest.fail("by oneDNN"))
    faster_linear.choose("onednn")
    assert torch.equal(faster_linear.linear(tokens, weight, bias), F.linear(tokens, weight, bias))
    monkeypatch.setattr(faster_linear, "LEAST_PRODUCTS", 1)
    faster_linear.choose("torch")
    assert torch.equal(faster_linear.linear(tokens, weight, bias), F.linear(tokens, weight, bias))


@pytest.mark.parametrize(
    ("variable", "gain", "library"),
    [
        (None, 1.29, "torch"),
        (None, 1.31, "onednn"),
        ("auto", 2.0, "onednn"),
        ("torch", 9.0, "torch"),
        ("onednn", 0.5, "onednn"),
    ],
)
def test_the_choice(variable: str | None, gain: float, library: str, monkeypatch):
    if variable is not None:
        monkeypatch.setenv(faster_linear.VARIABLE, variable)
    monkeypatch.setattr(faster_linear, "_gain", lambda: gain)
    assert faster_linear.library() == library
    monkeypatch.setattr(faster_linear, "_gain", lambda: pytest.fail("measured again"))
    assert faster_linear.library() == library
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    faster_linear.choose("onednn")
    assert faster_linear.library() == "torch"


def test_an_unknown_choice_offers_the_known(monkeypatch):
    monkeypatch.setenv(faster_linear.VARIABLE, "onednm")
    with pytest.raises(UserError, match=r'CASCADE_CLIP_LINEAR is "onednm"\. Did you mean "onednn"'):
        faster_linear.library()
    with pytest.raises(UserError, match="CASCADE_CLIP_LINEAR"):  # although no layer is large enough to ask
        CascadeCLIP.from_pretrained("bundled")


def test_layers_of_a_model_are_routed_under_their_names(tiny_model: CascadeCLIP, routed: list[tuple[int, ...]]):
    layers = [module for module in tiny_model.network.modules() if isinstance(module, nn.Linear)]
    assert all(type(layer).forward is faster_linear._Linear.forward for layer in layers)
    image, text = torch.zeros(1, 3, 64, 64), F.normalize(torch.ones(3, 32), dim=-1)
    with torch.inference_mode():
        found = tiny_model.network(image, text)
        products = len(routed)
        faster_linear.choose("torch")
        expected = tiny_model.network(image, text)
    assert products > len(layers) / 2
    assert len(routed) == products
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_traced_program_takes_any_size(routed: list[tuple[int, ...]]):
    layer = nn.Linear(24, 40)
    faster_linear.use_faster_linears(layer)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(layer, (torch.ones(2, 9, 24),), dynamic_shapes=({0: batch},), strict=True)
    assert program.module()(torch.ones(5, 9, 24)).shape == (5, 9, 40)
    assert routed == []


@pytest.mark.slow  # it trains
def test_a_resumed_run_computes_by_what_it_began_with(squares_recipe: Recipe, tmp_path, routed: list[tuple[int, ...]]):
    recipe = changed(squares_recipe, iterations=3)
    whole = train_to_weights(recipe, tmp_path / "whole")
    interrupt(recipe, tmp_path / "cut", 2)
    assert json.loads((tmp_path / "cut" / "environment.json").read_text())["linear_layers"] == "onednn"
    faster_linear.choose("torch")
    routed.clear()
    assert_same_weights(whole, train_to_weights(recipe, tmp_path / "cut", resume=True))
    assert routed
    # A run of an earlier version.
    faster_linear.choose("torch")
    interrupt(recipe, tmp_path / "old", 2)
    environment = tmp_path / "old" / "environment.json"
    record = json.loads(environment.read_text())
    del record["linear_layers"]
    environment.write_text(json.dumps(record))
    faster_linear.choose("onednn")
    routed.clear()
    train_to_weights(recipe, tmp_path / "old", resume=True)
    assert routed == []
