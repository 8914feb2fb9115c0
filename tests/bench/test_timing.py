"""Spreads and turns."""

from __future__ import annotations

import math

import pytest

from cascade_clip.bench import record
from cascade_clip.bench.against import notch
from cascade_clip.bench.record import WARM_UP_ROUNDS, spread, time_in_turns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless a test moves it."""
    now = [0.0]
    monkeypatch.setattr(record, "timer", lambda: now[0])
    return now


def test_spread_and_notch() -> None:
    values = (4.0, 1.0, 2.0, 3.0, 100.0)
    assert spread(values) == pytest.approx(2 / 3)
    low, high = notch(values)
    assert (low + high) / 2 == pytest.approx(3.0)
    assert high - low == pytest.approx(2 * 1.57 * 2 / math.sqrt(5))
    assert spread((2.0,)) == math.inf


def test_calls_take_turns(clock: list[float]) -> None:
    order: list[str] = []

    def call(name: str, seconds: float) -> None:
        order.append(name)
        clock[0] += seconds

    told: list[str] = []
    calls = {"fast": lambda: call("fast", 1.0), "slow": lambda: call("slow", 3.0)}
    seconds = time_in_turns(calls, 2, told.append)
    rounds = WARM_UP_ROUNDS + 2
    assert seconds == {"fast": [1.0] * rounds, "slow": [3.0] * rounds}
    assert order == told == ["fast", "slow"] * rounds
