"""The standard streams: results on stdout, progress and log lines on stderr, and printing never fails.

Text is printed as it is: names that users gave may hold what Rich takes for markup ("[/old]") or an emoji (":car:").
What is to be bold or coloured is a `rich.text.Text` with a style.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TextIO

from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from cascade_clip_cli.launch import is_first

CLOSED_PIPE = 141
"""Exit code where the reader of stdout has gone: what a shell reports of a program that SIGPIPE ended."""
FIRST_LINE_S, LINES_EVERY_S = 3.0, 30.0
"""Where stderr is no terminal: until the first line about something that takes long, and between the next ones."""
_DRAWN_BAR = re.compile(r"\|[^|]*\| *")

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


def print_result(text: str) -> None:
    """Print a result to stdout, as it is; ends the program where its reader has gone."""
    stream = _result_stream or sys.stdout
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:
        discard(stream)
        sys.exit(CLOSED_PIPE)


def prints_any_character() -> bool:
    """Whether results are printed in an encoding of Unicode."""
    encoding = getattr(_result_stream or sys.stdout, "encoding", None) or "utf-8"
    return encoding.lower().startswith("utf")


def discard(stream: object) -> None:
    """Let go what a stream still holds, whose place takes nothing more: it would fail again when Python ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return


class PlainConsole(Console):
    """A console that takes no text for markup and ends the program where the reader of its output has gone."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """End as other programs do whose reader has gone; without a reader of stderr only that falls silent."""
        self.quiet = True
        discard(self.file)
        if not self.stderr:
            raise SystemExit(CLOSED_PIPE)

    def insist(self, *parts: str | Text) -> None:
        """Print a line of any length although the user wants no progress."""
        quiet, self.quiet = self.quiet, False
        try:
            self.print(*parts, soft_wrap=True)
        except OSError:  # a full disk: the exit code still tells
            discard(self.file)
        finally:
            self.quiet = quiet

    @contextmanager
    def lines_in_time(self, text: Callable[[], str]) -> Iterator[None]:
        """Print what `text` gives where this is no terminal: after 3 s, after 9 more, and then at least every 30."""
        if self.is_interactive or self.quiet:
            yield
            return
        ended = threading.Event()

        def speak() -> None:
            wait = FIRST_LINE_S
            while not ended.wait(wait):
                self.print(text(), soft_wrap=True)
                wait = min(3 * wait, LINES_EVERY_S)

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @contextmanager
    def doing(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show what is being done while the block runs, and behind it the notes that the block reports."""
        text = what

        def note(about: str) -> None:
            nonlocal text
            text = f"{what}: {about}"
            line = Text(text)
            line.truncate(self.width - len("⠋ "), overflow="ellipsis")
            status.update(line)

        with self.lines_in_time(lambda: text), self.status(Text(what)) as status, bars_told_to(note):
            yield note


# Typer prints its help by a console of its own.
Console.on_broken_pipe = PlainConsole.on_broken_pipe  # type: ignore[method-assign, assignment]

stdout = PlainConsole(soft_wrap=True)
stderr = PlainConsole(stderr=True)


class _Bars(io.TextIOBase):
    """Takes the place of stderr for libraries that draw their own bars there (tqdm), which would disturb ours."""

    def __init__(self, behind: TextIO, note: Callable[[str], None]) -> None:
        self._behind, self._note, self._in_bar = behind, note, False
        self.rich_proxied_file = getattr(behind, "rich_proxied_file", behind)
        """Where Rich's own consoles write."""

    def isatty(self) -> bool:
        """As the libraries draw nothing elsewhere."""
        return True

    def fileno(self) -> int:
        return self._behind.fileno()

    def write(self, text: str) -> int:
        self._in_bar = "\r" in text or (self._in_bar and not text.strip())
        if not self._in_bar:
            return self._behind.write(text)
        if bar := _DRAWN_BAR.sub(" ", text.rpartition("\r")[2]).strip():
            self._note(bar)
        return len(text)


@contextmanager
def bars_told_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell what the bars of other libraries say, for example of a download, instead of drawing them."""
    behind = sys.stderr
    sys.stderr = _Bars(behind, tell)
    try:
        yield
    finally:
        sys.stderr = behind


@contextmanager
def only_result() -> Iterator[None]:
    """Keep stdout for what `print_result` prints: no tables, and what libraries print there goes to stderr."""
    global _result_stream
    _result_stream, stdout.quiet = sys.stdout, True
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _result_stream, stdout.quiet = None, False


def start_output(quiet: bool) -> bool:
    """Callback of `--quiet`: send the library's log lines to stderr; where it is given, warnings alone, and no bars."""
    if quiet:
        stderr.quiet = True
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    # The hub's client repeats itself at every retry; what it means for the user stands in one sentence of ours.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    logger = logging.getLogger("cascade_clip")
    if not logger.handlers:
        # Warnings are told to those who want no progress, too.
        console = PlainConsole(stderr=True) if stderr.quiet else stderr
        handler = RichHandler(console=console, show_path=False, show_time=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        # Of several processes the first speaks for all: they warn of the same things.
        least = logging.WARNING if stderr.quiet else logging.INFO
        logger.setLevel(least if is_first() else logging.ERROR)
        logger.propagate = False
    return quiet
