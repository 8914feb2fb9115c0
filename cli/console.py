"""What the commands draw with: results on stdout, progress and log lines on stderr."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

stdout = Console(soft_wrap=True)
stderr = Console(stderr=True)

Report = Callable[[int, int, str], None]


def be_quiet() -> None:
    """Show no progress and no log lines below warnings; results still go to stdout."""
    stderr.quiet = True
    # The variables serve a library that is imported later, the calls one that is imported already.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    for module in ("huggingface_hub.utils", "datasets"):
        if module in sys.modules:
            sys.modules[module].disable_progress_bars()
    logging.getLogger("cascade_clip").setLevel(logging.WARNING)


def show_log() -> None:
    """Send the library's log lines to stderr."""
    # The hub's client repeats itself at every retry; what it means for the user stands in one sentence of ours.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    logger = logging.getLogger("cascade_clip")
    if not logger.handlers:
        handler = RichHandler(console=stderr, show_path=False, show_time=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
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
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    hidden = stderr.quiet or not stderr.is_terminal
    # Results that a command prints meanwhile must reach stdout, not the bar's console.
    with Progress(*columns, console=stderr, transient=True, disable=hidden, redirect_stdout=False) as progress:
        task = progress.add_task(description, total=None, note="")

        def report(done: int, total: int, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield report
