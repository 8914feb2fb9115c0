import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cascade_clip.analysis.cka import MinibatchCka, batch_hsic, hsic1, linear_cka

FORMS = ["feature", "gram", "auto"]


def features(seed: int, samples: int = 40, channels: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, channels, generator=generator, dtype=torch.float64)


def rotation(seed: int, channels: int) -> Tensor:
    return torch.linalg.qr(features(seed, channels, channels))[0]


@pytest.mark.parametrize("form", FORMS)
@given(seed=st.integers(0, 10_000), channels=st.integers(1, 9), samples=st.integers(4, 30))
@settings(max_examples=25, deadline=None)
def test_identity_symmetry_range_and_invariance(form: str, seed: int, channels: int, samples: int):
    x, y = features(seed, samples, channels), features(seed + 1, samples, channels + 2)
    matrix = linear_cka([x, y], form=form)
    assert matrix.diagonal().allclose(torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)
    assert matrix.allclose(matrix.T, rtol=0, atol=1e-12)
    assert matrix.min() >= 0
    assert matrix.max() <= 1 + 1e-12
    moved = 3.7 * x @ rotation(seed, channels) + 11
    assert linear_cka([moved], [y], form=form).allclose(matrix[:1, 1:], rtol=1e-9, atol=1e-12)
    assert linear_cka([moved], [x], form=form).item() == pytest.approx(1)


@given(seed=st.integers(0, 10_000), channels=st.integers(1, 9), samples=st.integers(4, 30))
@settings(max_examples=25, deadline=None)
def test_hsic1_is_the_published_formula_in_both_forms(seed: int, channels: int, samples: int):
    x, y = features(seed, samples, channels) + 5, features(seed + 1, samples, 4)
    k, kernel = x @ x.T, y @ y.T
    k, kernel = k - k.diagonal().diag(), kernel - kernel.diagonal().diag()
    n, one = samples, torch.ones(samples, dtype=torch.float64)
    expected = (k * kernel).sum() + (one @ k @ one) * (one @ kernel @ one) / ((n - 1) * (n - 2))
    expected = (expected - 2 / (n - 2) * (one @ k @ kernel @ one)) / (n * (n - 3)) if n > 3 else expected
    for form in FORMS:
        assert hsic1([x], [y], form=form).item() == pytest.approx(expected.item(), rel=1e-8, abs=1e-8)


def test_independent_features_have_no_hsic_on_average_but_some_biased_cka():
    pairs = [(features(2 * seed, 12), features(2 * seed + 1, 12)) for seed in range(300)]
    unbiased = torch.stack([hsic1([x], [y])[0, 0] for x, y in pairs])
    assert abs(unbiased.mean()) < 4 * unbiased.std() / len(pairs) ** 0.5
    assert torch.stack([linear_cka([x], [y])[0, 0] for x, y in pairs]).mean() > 0.2


def test_streaming_agrees_with_the_exact_form_up_to_its_scatter():
    x = features(0, 6000, 5)
    y = x @ features(1, 5, 4) + 0.7 * features(2, 6000, 4)
    exact = linear_cka([x, y])[0, 1].item()
    errors = []
    for size in (20, 100, 500):
        streamed = MinibatchCka(2, 2)
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            streamed.add(batch_hsic([x[rows], y[rows]]))
        assert np.allclose(streamed.matrix().diagonal(), 1)
        errors.append(abs(streamed.matrix()[0, 1] - exact))
    assert max(errors) < 0.01


def test_crossed_batches_give_the_corner_of_the_joint_matrix():
    joint, crossed = MinibatchCka(3, 3), MinibatchCka(1, 2)
    for seed in range(5):
        layers = [features(10 * seed + i) for i in range(3)]
        joint.add(batch_hsic(layers))
        crossed.add(batch_hsic(layers[:1], layers[1:]))
    assert np.allclose(crossed.matrix(), joint.matrix()[:1, 1:], atol=1e-12)


def test_what_is_not_defined_is_nan_or_refused():
    constant = torch.ones(8, 3)
    assert linear_cka([constant, features(0, 8)]).isnan().tolist() == [[True, True], [True, False]]
    streamed = MinibatchCka(2, 2)
    streamed.add(batch_hsic([constant, features(0, 8)]))
    assert np.isnan(streamed.matrix()).tolist() == [[True, True], [True, False]]
    noise = 100 + 1e-6 * features(1, 8)
    assert linear_cka([noise, features(0, 8)]).isnan().tolist() == [[True, True], [True, False]]
    with pytest.raises(ValueError, match="needs 4 samples, 3 were given"):
        hsic1([features(0, 3)])
