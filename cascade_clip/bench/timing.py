"""Time in turns: every subject once a round, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

WARM_UP_ROUNDS = 2
"""Rounds that do not count: memory is taken from the system, kernels are chosen or compiled."""
LARGEST_SPREAD = 0.1
"""Spread of a ratio beyond which nothing is concluded from it."""
_NOTCH = 1.57
"""Half width of a median's notch in quartile distances over the root of the count (McGill, Tukey and Larsen 1978):
medians whose notches do not overlap differ, at about 95 % confidence."""


@dataclass(frozen=True)
class Sample:
    """Figures that were measured repeatedly, at least one."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the values lies below the first, a quarter above the second."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a share of the median; of a single value nothing is known: infinite."""
        low, high = self.quartiles
        return (high - low) / self.median if len(self.values) > 1 else math.inf

    @property
    def notch(self) -> tuple[float, float]:
        """Where the true median lies, at about 95 % confidence."""
        reach = _NOTCH * self.spread * self.median / math.sqrt(len(self.values))
        return self.median - reach, self.median + reach

    @property
    def conclusive(self) -> bool:
        """Whether the spread is small enough to conclude anything."""
        return self.spread <= LARGEST_SPREAD

    def over(self, other: Sample) -> Sample:
        """Ratios to another subject's values of the same rounds."""
        return Sample(tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)))


class Turns:
    """Collects the seconds that each subject took in each round."""

    def __init__(self, device: torch.device, progress: Callable[[str], None] | None = None) -> None:
        """Time on a device; `progress` is told the subject before each of its turns."""
        self.device = device
        self.progress = progress
        self._seconds: dict[str, list[float]] = {}

    def take(self, name: str, call: Callable[[], object]) -> None:
        """Let a subject have its turn."""
        if self.progress is not None:
            self.progress(name)
        begin = now(self.device)
        call()
        self.add(name, now(self.device) - begin)

    def add(self, name: str, seconds: float) -> None:
        """Note a turn that was timed elsewhere."""
        self._seconds.setdefault(name, []).append(seconds)

    def first(self) -> dict[str, float]:
        """Seconds of each subject's very first turn, compilation included."""
        return {name: seconds[0] for name, seconds in self._seconds.items()}

    def samples(self) -> Mapping[str, Sample]:
        """Seconds of the rounds that count."""
        return {name: Sample(tuple(seconds[WARM_UP_ROUNDS:])) for name, seconds in self._seconds.items()}


def now(device: torch.device) -> float:
    """Seconds on a clock, when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()
