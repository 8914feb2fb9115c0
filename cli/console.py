"""What the commands draw with: results on stdout, progress and log lines on stderr.

Text is printed as it is: names that users gave may hold what Rich takes for markup ("[/old]") or an emoji (":car:").
What is to be bold or coloured is a `rich.text.Text` with a style.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from cascade_clip_cli.launch import is_first
from cascade_clip_cli.streams import CLOSED_PIPE, discard, results_only

Report = Callable[[int, int, str], None]


class PlainConsole(Console):
    """A console that takes no text for markup and ends the program where nobody reads its output any more."""

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
    def doing(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show what is being done while the block runs, and behind it the notes that the block reports."""
        with self.status(Text(what)) as status:
            yield lambda note: status.update(Text(f"{what}: {note}"))


# Typer prints its help by a console of its own.
Console.on_broken_pipe = PlainConsole.on_broken_pipe  # type: ignore[method-assign, assignment]

stdout = PlainConsole(soft_wrap=True)
stderr = PlainConsole(stderr=True)


@contextmanager
def only_result() -> Iterator[None]:
    """Keep stdout for one result, which `print_result` prints: no tables, and nothing that libraries print there."""
    stdout.quiet = True
    try:
        with results_only():
            yield
    finally:
        stdout.quiet = False


def be_quiet() -> None:
    """Show no progress and no log lines below warnings; results still go to stdout. Before `show_log`."""
    stderr.quiet = True
    # The variables serve a library that is imported later, the calls one that is imported already.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    for module in ("huggingface_hub.utils", "datasets"):
        if module in sys.modules:
            sys.modules[module].disable_progress_bars()


def show_log() -> None:
    """Send the library's log lines to stderr."""
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


@contextmanager
def progress_bar(description: str) -> Iterator[Report]:
    """Draw a progress bar on stderr while the block runs.

    Args:
        description: What is being done.

    Yields:
        A callback `(done, total, note)` that long jobs of the library take.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    hidden = stderr.quiet or not stderr.is_terminal
    # Results that a command prints meanwhile must reach stdout, not the bar's console.
    with Progress(*columns, console=stderr, transient=True, disable=hidden, redirect_stdout=False) as progress:
        task = progress.add_task(description, total=None, note="")

        def report(done: int, total: int, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield report
