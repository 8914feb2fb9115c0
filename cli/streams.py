"""The standard streams, such that printing never fails: closed ones, pipes without a reader, narrow encodings."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TextIO

CLOSED_PIPE = 141
"""Exit code where nobody reads stdout any more: what a shell reports of a program that SIGPIPE ended."""

_result_stream: TextIO | None = None


def prepare_streams() -> None:
    """Open streams that were closed, and let the others print what their encoding lacks by its number ("\\u6728").

    A file that is opened while a standard stream is closed would take its number, and what is printed there would end
    up in that file.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            # A closed stream refuses, and one that cannot seek and that another process has written to; they stay.
            with suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


@contextmanager
def results_only() -> Iterator[None]:
    """Keep stdout for what `print_result` prints; what else is printed there in the block goes to stderr."""
    global _result_stream  # noqa: PLW0603
    _result_stream = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _result_stream = None


def print_result(text: str) -> None:
    """Print a result to stdout, as it is.

    Raises:
        SystemExit: Nobody reads stdout any more.
    """
    stream = _result_stream or sys.stdout
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        discard(stream)
        sys.exit(CLOSED_PIPE)


def prints_any_character(stream: TextIO | None = None) -> bool:
    """Whether a stream, by default that of results, is in an encoding of Unicode."""
    encoding = getattr(stream or _result_stream or sys.stdout, "encoding", None) or "utf-8"
    return encoding.lower().startswith("utf")


def discard(stream: object) -> None:
    """Let go what a stream still holds, whose place takes nothing more: it would fail again when Python ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return
