"""The warm-up of `train.compile`: told once, and kept apart from the speed of training."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cascade_clip.compilation import compiling
from cascade_clip.training.loss_reading import Meter

logger = logging.getLogger(__name__)


class Warmup:
    """Keeps the time that compiling takes apart from the speed of training."""

    def __init__(self, compiles: bool) -> None:
        """Say whether the first step compiles."""
        self._compiles = compiles
        self._seconds: float | None = None

    @contextmanager
    def first_step(self, meter: Meter) -> Iterator[None]:
        """Around every step: time the first one, and start the meter's clock after it.

        Raises:
            UserError: The network cannot be compiled.
        """
        if not self._compiles or self._seconds is not None:
            yield
            return
        start = time.perf_counter()
        with compiling("train with --set train.compile=false"):
            yield
        self._seconds = time.perf_counter() - start
        meter.restart_clock()
        logger.info("Compiled in the first step, which took %.0f s.", self._seconds)

    def seconds(self) -> dict[str, float]:
        """The first step's seconds as a value of the log, told once; nothing where nothing was compiled."""
        if not self._compiles or self._seconds is None:
            return {}
        self._compiles = False
        return {"compile_s": self._seconds}
