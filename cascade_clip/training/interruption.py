"""Ctrl-C and SIGTERM while a run trains: they wait for the end of the step, so that its state can be saved."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)


class Interruption:
    """Whether this process was asked to stop; calling it says so."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.signal: int | None = None
        """Number of the signal; None: there was none."""

    def __call__(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None


@contextmanager
def interruption_after_step() -> Iterator[Interruption]:
    """Keep SIGINT and SIGTERM until the block ends, and raise them again then; a second one acts at once.

    Signals that are ignored stay ignored. In other threads than the main one, which get no signals, nothing is kept.

    Yields:
        What the block asks after each step.
    """
    interruption = Interruption()
    earlier: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    def keep(number: int, _frame: FrameType | None) -> None:
        interruption.signal = number
        restore()
        if os.environ.get("RANK", "0") == "0":
            logger.warning("The step is finished and its state saved before training stops.")

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if (handler := signal.getsignal(number)) not in {signal.SIG_IGN, None}:
                earlier[number] = handler
                signal.signal(number, keep)
    try:
        yield interruption
    finally:
        restore()
    if interruption.signal is not None:
        signal.raise_signal(interruption.signal)
