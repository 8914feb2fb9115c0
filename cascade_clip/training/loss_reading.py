"""Loss terms on their way from the device to the log, and their means."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cascade_clip.errors import UserError


@dataclass(frozen=True)
class _Waiting:
    step: int
    terms: Tensor
    arrived: torch.cuda.Event | None
    names: Sequence[str]


class LossReader:
    """Reads the loss terms of each step and refuses those that are not finite.

    Reading a value makes a GPU finish all that was asked of it, and it would then stand still until the next step is
    launched. There the terms of a step are read while the device is at the next one.
    """

    def __init__(self, region_loss: str, *, behind: bool) -> None:
        """Begin with nothing to read.

        Args:
            region_loss: What stands beside the focal loss, for messages.
            behind: Leave the newest step's terms until the next step, or until all are asked for.
        """
        self.region_loss = region_loss
        self.behind = behind
        self._waiting: deque[_Waiting] = deque()
        self._terms: list[tuple[float, float]] = []

    def add(self, step: int, terms: Tensor, names: Sequence[str]) -> None:
        """Take the weighted focal and region terms (2,) of a step, counted from 1, and the names of its images.

        Raises:
            UserError: A term is not finite, of this step where nothing is left behind.
        """
        host, arrived = terms.to("cpu", non_blocking=self.behind), None
        if self.behind and terms.is_cuda:
            arrived = torch.cuda.Event()
            arrived.record()
        self._waiting.append(_Waiting(step, host, arrived, names))
        self._settle(1 if self.behind else 0)

    def read(self, *, everything: bool) -> list[tuple[float, float]]:
        """Focal and region terms of the steps that have not been read, oldest first; `everything` waits for the newest.

        Raises:
            UserError: A term is not finite.
        """
        if everything:
            self._settle(0)
        terms, self._terms = self._terms, []
        return terms

    def _settle(self, kept: int) -> None:
        while len(self._waiting) > kept:
            self._terms.append(self._finite(self._waiting.popleft()))

    def _finite(self, waiting: _Waiting) -> tuple[float, float]:
        if waiting.arrived is not None:
            waiting.arrived.synchronize()
        focal, region = waiting.terms.tolist()
        if not math.isfinite(focal + region):
            raise UserError(
                f"The loss is not finite at step {waiting.step} (focal {focal}, {self.region_loss} {region}; images:"
                f" {', '.join(waiting.names)})."
                " Lower the rate (--set train.lr=1e-5) or use --precision fp32; the last state can be resumed."
            )
        return focal, region


class Meter:
    """Means of the loss terms, and images a second, since the last line of the log."""

    def __init__(self, batch: int, region_loss: str) -> None:
        """Start the clock; `batch` images count for each step."""
        self.batch = batch
        self.region_loss = region_loss
        self.latest = (math.nan, math.nan)
        self.restart()

    def restart(self) -> None:
        """Forget all but the latest terms, and start the clock anew."""
        self._terms: list[tuple[float, float]] = []
        self.restart_clock()

    def restart_clock(self) -> None:
        """Let the rate begin here."""
        self._steps = 0
        self._start = time.perf_counter()

    def add(self, terms: Sequence[tuple[float, float]]) -> None:
        """Count a step, and take the terms that were read after it: its own, an earlier step's, or both."""
        self._steps += 1
        self._terms.extend(terms)
        if terms:
            self.latest = terms[-1]

    def rate(self) -> float:
        """Images a second over the steps that were counted."""
        return self._steps * self.batch / max(time.perf_counter() - self._start, 1e-9)

    def means(self) -> dict[str, float]:
        """Means of the total, the focal and the region term."""
        focal, region = (sum(values) / len(values) for values in zip(*self._terms, strict=True))
        return {"loss": focal + region, "focal": focal, self.region_loss: region}
