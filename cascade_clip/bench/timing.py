"""Interleaved timing, and how the time is divided among the parts of a pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from torch.utils.benchmark import timer

WARM_UP_ROUNDS = 2
"""Rounds that do not count: memory is allocated, kernels are chosen or compiled."""
LARGEST_SPREAD = 0.1
"""Spread of a ratio beyond which nothing is concluded from it."""


def time_in_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, progress: Callable[[str], None] = lambda _: None
) -> dict[str, list[float]]:
    """Time several calls in turn, each once per round, so that other load on the machine slows all of them alike.

    `torch.utils.benchmark.Timer` would time one after the other, and run each at least three times per round.

    Returns:
        Name -> seconds of every round in order, `WARM_UP_ROUNDS` more than the `rounds` that count. The clock waits for
        what a call started on the device. `progress` is called with the name before each call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(WARM_UP_ROUNDS + rounds):
        for name, call in calls.items():
            progress(name)
            begin = timer()
            call()
            seconds[name].append(timer() - begin)
    return seconds


def spread(values: Sequence[float]) -> float:
    """Interquartile range over the median; infinite for a single value."""
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float((high - low) / median) if len(values) > 1 else math.inf


def notch(values: Sequence[float]) -> tuple[float, float]:
    """Interval of the median at about 95 % confidence (McGill, Tukey and Larsen 1978): medians differ where their
    notches do not overlap."""
    median = float(np.median(values))
    half = 1.57 * spread(values) * median / math.sqrt(len(values))
    return median - half, median + half


class PartClock:
    """Adds up the seconds of each part of a pass; from one `enter` to the next the time goes to one part.

    The clock waits for the device at every border. `torch.profiler` would add its own cost to every operation.
    """

    def __init__(self) -> None:
        """Start with the clock stopped."""
        self.seconds: dict[str, float] = {}
        self._part: str | None = None
        self._since = 0.0

    def enter(self, part: str | None) -> None:
        """Begin another part; None stops the clock."""
        now = timer()
        if self._part is not None:
            self.seconds[self._part] = self.seconds.get(self._part, 0.0) + now - self._since
        self._part, self._since = part, now

    @contextmanager
    def entered_by(self, calls: Mapping[str, tuple[object, str, str]]) -> Iterator[None]:
        """Let calls of methods enter parts: part -> object, name of its method, and the part that comes after it."""
        with ExitStack() as patches:
            for part, (owner, method, following) in calls.items():

                def timed(*given: Any, part: str, following: str, call: Callable[..., Any], **named: Any) -> Any:
                    self.enter(part)
                    result = call(*given, **named)
                    self.enter(following)
                    return result

                call = partial(timed, part=part, following=following, call=getattr(owner, method))
                patches.enter_context(patch.object(owner, method, call))
            yield
