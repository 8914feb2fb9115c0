"""Medians, spreads and turns."""

from __future__ import annotations

import math

import pytest
import torch

from cascade_clip.bench import timing
from cascade_clip.bench.timing import WARM_UP_ROUNDS, Sample, Turns


def test_figures_of_a_sample() -> None:
    sample = Sample((4.0, 1.0, 2.0, 3.0, 100.0))
    assert sample.median == 3.0
    assert sample.quartiles == (2.0, 4.0)
    assert sample.spread == pytest.approx(2 / 3)
    low, high = sample.notch
    assert (low + high) / 2 == pytest.approx(3.0)
    assert high - low == pytest.approx(2 * 1.57 * 2 / math.sqrt(5))


def test_of_one_value_the_spread_is_unknown() -> None:
    assert Sample((2.0,)).spread == math.inf
    assert not Sample((2.0,)).conclusive
    assert Sample((2.0, 2.0, 2.01)).conclusive


def test_ratios_are_those_of_the_same_round() -> None:
    assert Sample((2.0, 9.0)).over(Sample((1.0, 3.0))).values == (2.0, 3.0)


def test_turns_leave_out_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that costs 10, 5, then 1, 2, 3 seconds of a clock that stands still otherwise."""
    costs = iter([10.0, 5.0, 1.0, 2.0, 3.0])
    clock = [0.0]
    monkeypatch.setattr(timing, "now", lambda device: clock[0])
    told: list[str] = []
    turns = Turns(torch.device("cpu"), told.append)

    def call() -> None:
        clock[0] += next(costs)

    for _ in range(WARM_UP_ROUNDS + 3):
        turns.take("work", call)
    assert turns.first() == {"work": 10.0}
    assert turns.samples()["work"].values == (1.0, 2.0, 3.0)
    assert told == ["work"] * 5
