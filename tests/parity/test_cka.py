"""CKA equals the golden values in every form (SPEC: only the formulas are known; golden `cka`)."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from cascade_clip.analysis.cka import MinibatchCka, batch_hsic, hsic1, linear_cka

EXACTLY = 1e-12


@pytest.fixture(scope="module")
def facts(golden: Path) -> dict:
    return json.loads((golden / "cka" / "cka.json").read_text())


@pytest.fixture(scope="module")
def features(golden: Path) -> tuple[Tensor, Tensor]:
    stored = load_file(golden / "cka" / "activations.safetensors")
    return stored["X"], stored["Y"]


@pytest.mark.parametrize("form", ["feature", "gram", "auto"])
def test_linear_cka(facts: dict, features: tuple[Tensor, Tensor], form: str):
    x, y = features
    assert float(linear_cka([x], [y], form=form)) == pytest.approx(facts["linear_cka"], rel=EXACTLY)


@pytest.mark.parametrize("form", ["feature", "gram", "auto"])
def test_unbiased_hsic_of_all_samples(facts: dict, features: tuple[Tensor, Tensor], form: str):
    both = hsic1(features, form=form)
    cka = float(both[0, 1] / (both[0, 0] * both[1, 1]).sqrt())
    assert cka == pytest.approx(facts["unbiased_hsic_full_batch_cka"], rel=EXACTLY)


def test_minibatch_cka_and_every_batch(facts: dict, features: tuple[Tensor, Tensor]):
    x, y = features
    size = facts["batch_size"]
    streamed = MinibatchCka(1, 1)
    for number in range(facts["n"] // size):
        rows = slice(number * size, (number + 1) * size)
        batch = batch_hsic([x[rows]], [y[rows]])
        streamed.add(batch)
        for name, value in (("xy", batch.cross), ("xx", batch.rows), ("yy", batch.columns)):
            assert float(value.item()) == pytest.approx(facts[f"per_batch_hsic_{name}"][number], rel=EXACTLY)
    assert streamed.matrix().item() == pytest.approx(facts["minibatch_cka"], rel=EXACTLY)
