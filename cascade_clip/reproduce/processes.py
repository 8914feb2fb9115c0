"""Commands of `cascade-clip` as processes of their own, which are not left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_SECONDS_BY_ITSELF = 3.0
_SECONDS_TO_STOP = 20.0


class Processes:
    """Runs commands, several at once from as many threads, and ends them when asked."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        """Run `cascade-clip` with these arguments and wait for it.

        Args:
            arguments: Command and options.
            log: File at whose end everything goes that the command says.
            environment: Variables on top of this process's.

        Returns:
            Its exit code, negative where a signal ended it.
        """
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "cascade_clip_cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )
        self._running.add(process)
        try:
            return process.wait()
        finally:
            self._running.discard(process)

    def stop(self) -> None:
        """Wait for what Ctrl-C in the terminal has reached already, then end what is left."""
        waits = (None, _SECONDS_BY_ITSELF), (signal.SIGINT, _SECONDS_TO_STOP), (signal.SIGKILL, _SECONDS_TO_STOP)
        for signal_number, seconds in waits:
            for process in list(self._running):
                if signal_number is not None:
                    process.send_signal(signal_number)
            for process in list(self._running):
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue
