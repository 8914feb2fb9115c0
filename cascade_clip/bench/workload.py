"""What every kind of measurement has in common: subjects that take turns, beside a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from cascade_clip.bench.counting import count_flops
from cascade_clip.bench.timing import Turns

TOWER = "bare tower"
PLAIN, COMPILED = "plain", "compiled"


class Workload:
    """Subjects by name, in the order of their turns; the first is the reference of all ratios.

    Attributes:
        device: Where they run.
        subjects: Name -> call of one turn.
        images: Name -> images (or crops) of one turn.
    """

    def __init__(self, device: torch.device) -> None:
        """Start without subjects."""
        self.device = device
        self.subjects: dict[str, Callable[[], object]] = {}
        self.images: dict[str, int] = {}

    @property
    def reference(self) -> str:
        """The subject that the others are compared with."""
        return next(iter(self.subjects))

    def add(self, name: str, call: Callable[[], object], images: int = 1) -> None:
        """Give a subject its place in the turns."""
        self.subjects[name] = call
        self.images[name] = images

    def measure(self, turns: Turns, rounds: int) -> None:
        """Let every subject have its turn in each of the rounds."""
        for _ in range(rounds):
            for name, call in self.subjects.items():
                turns.take(name, call)

    def run(self, name: str) -> None:
        """Let one subject work as long as its memory takes to reach its peak.

        Raises:
            KeyError: There is no such subject.
        """
        for _ in range(2):
            self.subjects[name]()

    def rooms(self, rounds: int) -> Mapping[str, float]:
        """Median seconds of each part of one image or step, from passes of their own; empty where there are none."""
        return {}

    def flops(self, name: str) -> int:
        """Floating-point operations of one turn of a subject."""
        return count_flops(self.subjects[name])

    def facts(self) -> dict[str, Any]:
        """What else is worth telling: parameters, agreement of labels."""
        return {}
