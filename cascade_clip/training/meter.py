"""What a run measures as it trains: loss terms on their way from the device to the log, their means, its speed."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cascade_clip.compilation import compiling
from cascade_clip.errors import UserError
from cascade_clip.evaluation.scores import Scores

logger = logging.getLogger(__name__)
MEBIBYTE = 2**20


@dataclass(frozen=True)
class TrainReport:
    """How a run stands after a step.

    The loss and its weighted focal and region term (which is dice or SSIM, as `region_loss` says) are those of this
    step, on a GPU of the one before, unless this one is logged, saved or validated. The speed is that since the last
    line of the log, `memory` the device's peak in MiB, 0 on the CPU.
    """

    step: int
    steps: int
    loss: float
    focal: float
    region: float
    region_loss: str
    lr: float
    images_per_second: float
    memory: float
    validation: Scores | None = None


Watch = Callable[[TrainReport], None]


class _Terms(NamedTuple):
    """What a step returned (3,), perhaps still on its way from the GPU, and the names of its images."""

    step: int
    values: Tensor
    arrived: torch.cuda.Event | None
    names: Sequence[str]


class Meter:
    """Reads the loss terms of each step, refuses those that are not finite, and averages them for the log.

    Reading a value makes a GPU finish all that was asked of it, and it would then stand still until the next step is
    launched. There the terms of a step are read while the device is at the next one.
    """

    def __init__(
        self, batch: int, region_loss: str, *, behind: bool, unlogged: Sequence[tuple[float, float]] = ()
    ) -> None:
        """Start the clock.

        `batch` are the images of a step over all processes, `region_loss` stands beside the focal loss. `behind`: leave
        the newest step's terms unread until the next step, unless `add` is told to wait. `unlogged` are terms of steps
        before, which the next line counts too.
        """
        self.batch, self.region_loss, self.behind = batch, region_loss, behind
        self.latest = (math.nan, math.nan)
        """Focal and region term that were read last."""
        self._unread: deque[_Terms] = deque()
        self._compile_seconds: float | None = None
        self.asked_to_stop = False
        """Whether any process was, at the step that was read last."""
        self.restart()
        self.unlogged.extend(unlogged)

    def add(self, step: int, terms: Tensor, names: Sequence[str], *, wait: bool = False) -> None:
        """Count a step and read the terms that have arrived.

        `terms` (3,) float on any device are its weighted focal and region term and whether a process was asked to stop
        (above 0); `names` its images', for the message. `wait`: read this step's terms now. Raises UserError for a term
        that was read and is not finite.
        """
        host, arrived = terms.to("cpu", non_blocking=self.behind), None
        if self.behind and terms.is_cuda:
            arrived = torch.cuda.Event()
            arrived.record()
        self._unread.append(_Terms(step, host, arrived, names))
        self._steps += 1
        self.read(leave=1 if self.behind and not wait else 0)

    def read(self, *, leave: int = 0) -> None:
        """Read all terms but the newest `leave`; errors are those of `add`."""
        while len(self._unread) > leave:
            self.latest = self._read(self._unread.popleft())
            self.unlogged.append(self.latest)

    @contextmanager
    def compiled_step(self) -> Iterator[None]:
        """Around the step that compiles the network, or raises UserError: its time is logged, and not training's."""
        start = time.perf_counter()
        with compiling("train with --set train.compile=false"):
            yield
        self._compile_seconds = time.perf_counter() - start
        self._restart_clock()
        logger.info("Compiled in the first step, which took %.0f s.", self._compile_seconds)

    def rate(self) -> float:
        """Images a second since `restart`."""
        return self._steps * self.batch / max(time.perf_counter() - self._start, 1e-9)

    def line(self, lr: float) -> dict[str, float]:
        """A line of the log: means of the loss and its terms since `restart`, rate, speed, memory in MiB.

        The first line after `compiled_step` says how many seconds that took, as `compile_s`.
        """
        focal, region = (sum(terms) / len(terms) for terms in zip(*self.unlogged, strict=True))
        means = {"loss": focal + region, "focal": focal, self.region_loss: region}
        values = {**means, "lr": lr, "images_per_s": self.rate(), "memory_mib": _memory()}
        if self._compile_seconds is not None:
            values["compile_s"], self._compile_seconds = self._compile_seconds, None
        return values

    def report(self, step: int, steps: int, lr: float, validation: Scores | None) -> TrainReport:
        """How the run stands after `step` of `steps` steps."""
        focal, region = self.latest
        return TrainReport(
            step, steps, focal + region, focal, region, self.region_loss, lr, self.rate(), _memory(), validation
        )

    def restart(self) -> None:
        """Forget all but the latest terms, and start the clock anew."""
        self.unlogged: list[tuple[float, float]] = []
        """Focal and region terms since the last line of the log."""
        self._restart_clock()

    def _restart_clock(self) -> None:
        self._steps = 0
        self._start = time.perf_counter()

    def _read(self, terms: _Terms) -> tuple[float, float]:
        step, values, arrived, names = terms
        if arrived is not None:
            arrived.synchronize()
        focal, region, asked = values.tolist()
        self.asked_to_stop = asked > 0
        if not math.isfinite(focal + region):
            raise UserError(
                f"The loss is not finite at step {step} (focal {focal}, {self.region_loss} {region}; images:"
                f" {', '.join(names)})."
                " Start anew with a lower rate (--set train.lr=1e-5), or continue with --resume --precision fp32."
            )
        return focal, region


def _memory() -> float:
    return torch.cuda.max_memory_allocated() / MEBIBYTE if torch.cuda.is_available() else 0.0
