"""Spreads and turns."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from cascade_clip.bench import record
from cascade_clip.bench.record import (
    WARM_UP_ROUNDS,
    changes_since,
    different_settings,
    notch,
    read_record,
    spread,
    time_in_turns,
)
from cascade_clip.errors import UserError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless a test moves it."""
    now = [0.0]
    monkeypatch.setattr(record, "timer", lambda: now[0])
    return now


def test_spread_and_notch():
    values = (4.0, 1.0, 2.0, 3.0, 100.0)
    assert spread(values) == pytest.approx(2 / 3)
    low, high = notch(values)
    assert (low + high) / 2 == pytest.approx(3.0)
    assert high - low == pytest.approx(2 * 1.57 * 2 / math.sqrt(5))
    assert spread((2.0,)) == math.inf


def test_calls_take_turns(clock: list[float]):
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


def _record(*ratios: float, kind: str = "predict", threads: int = 2, memory: float | None = None) -> dict[str, Any]:
    ours: dict[str, Any] = {"ratios": list(ratios)}
    if memory is not None:
        ours["memory"] = {"host_above_build_mib": memory}
    return {
        "settings": {"kind": kind, "threads": threads},
        "environment": {"packages": {"torch": "2.4"}, "processor": "p", "device": "cpu"},
        "reference": "bare tower",
        "subjects": {"bare tower": {"ratios": [1.0] * len(ratios)}, "label map": ours},
    }


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        ((1.20, 1.21, 1.22, 1.20, 1.21), "faster"),
        ((1.50, 1.51, 1.52, 1.50, 1.51), "slower"),
        ((1.30, 1.32, 1.31, 1.33, 1.30), "no difference"),
        ((1.0, 1.9, 1.2, 1.6, 1.4), "spread too wide"),
        ((1.0,), "spread too wide"),
    ],
)
def test_verdict_respects_the_spread(now: tuple[float, ...], verdict: str):
    before = _record(1.30, 1.31, 1.32, 1.30, 1.31, memory=200.0)
    tower, ours = changes_since(before, _record(*now, memory=100.0))
    assert tower.verdict == "reference"
    assert ours.verdict == verdict
    assert (ours.before, ours.memory) == (1.31, (200.0, 100.0))


def test_says_what_else_differs():
    after = _record(1.0, threads=4)
    after["environment"]["packages"]["torch"] = "2.5"
    assert different_settings(_record(1.0), after) == ["threads 2 -> 4", "torch 2.4 -> 2.5"]
    assert different_settings(_record(1.0), _record(2.0)) == []


def test_reads_only_records(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read: No such file"):
        read_record(tmp_path / "missing.json", "predict")
    for content in ("{", "[]", '{"scores": 1}'):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(UserError, match=r'other.json" is no result of `cascade-clip bench`'):
            read_record(tmp_path / "other.json", "predict")
    (tmp_path / "train.json").write_text(json.dumps(_record(1.0, kind="train")))
    with pytest.raises(UserError, match=r"earlier result is of `bench train`, this one of `bench predict`"):
        read_record(tmp_path / "train.json", "predict")


def test_reads_the_committed_records():
    files = sorted((Path(__file__).parents[2] / "recipes" / "bench").glob("*.json"))
    assert files
    for file in files:
        record = read_record(file, file.name.split("-")[0])
        assert different_settings(record, record) == []
        tower, ours, *_ = changes_since(record, record)
        assert (tower.verdict, ours.before) == ("reference", ours.after)
        assert None not in ours.memory
