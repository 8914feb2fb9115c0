"""How far long work is: a bar and facts on a terminal of any width, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from cascade_clip.reproduce import runner
from cascade_clip.reproduce import runs as reproduce_runs
from cascade_clip.training import run_folder
from cascade_clip_cli.console import stderr

SHORTEST_BAR = 6
ROOM_FOR_FACTS = 60
"""Columns beside a run: step, time left, loss, images a second, and a bar."""
Report = Callable[[int, int, str], None]


class TimeLeft:
    """Estimates from the first counted item on how long the rest takes."""

    def __init__(self, begun: int | None = None) -> None:
        """Start the clock at `begun` items that are done; None: one less than the first call says."""
        self._start = time.monotonic()
        self._first = None if begun is None else (begun, self._start)

    def __call__(self, done: int, total: int) -> str:
        """The time left, "0:04:10 left"; empty where it is not known. The first call need not be for the first item."""
        now = time.monotonic()
        if done <= 0 or total <= 0:
            return ""
        before, since = self._first or (done - 1, self._start)
        if done <= before:
            return ""
        each = (now - since) / (done - before)
        # What comes before the first item, for example loading, is no measure of the others.
        self._first = self._first or (done, now)
        return f"{timedelta(seconds=round(each * (total - done)))} left"


def fitting(facts: Sequence[str], width: int) -> str:
    """The first facts that fit into a line of so many characters; of the very first at least its beginning."""
    line = ""
    for fact in filter(None, facts):
        longer = f"{line}  {fact}" if line else fact
        if line and len(longer) > width:
            break
        line = longer
    return line if len(line) <= width else f"{line[: max(0, width - 1)]}…"


@dataclass
class Work:
    """What `progress_line` draws: facts, the most important first, and items done of all (None: not known)."""

    facts: Sequence[str]
    done: int = 0
    total: int | None = None

    def fitting(self, description: str) -> str:
        """The facts that fit beside a description and a bar."""
        return fitting(self.facts, stderr.width - len(description) - SHORTEST_BAR - 2)


def progress_bars(*, transient: bool, disable: bool) -> Progress:
    """Rich's bars on stderr: description, a bar as long as there is room, and a task's field `facts`."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[facts]}", markup=False),
    )
    # Results that a command prints meanwhile must reach stdout, not the bar's console.
    return Progress(*columns, console=stderr, transient=transient, disable=disable, redirect_stdout=False, expand=True)


@contextmanager
def progress_line(description: str, *, transient: bool = True, shown: bool = True) -> Iterator[Callable[[Work], None]]:
    """Draw a bar and as many facts as fit on stderr while the block runs; where it is no terminal, lines.

    With `transient` the line goes at the end; where not `shown`, nothing is drawn. Yields what shows how far the work
    is.
    """
    work = Work(())
    hidden = stderr.quiet or not stderr.is_interactive or not shown

    def line() -> str:
        return "  ".join(filter(None, (description, *work.facts)))

    bars = progress_bars(transient=transient, disable=hidden)
    with stderr.lines_in_time(line) if shown else nullcontext(), bars:
        task = bars.add_task(description, total=None, facts="")

        def show(now: Work) -> None:
            nonlocal work
            work = now
            if not hidden:
                bars.update(task, completed=work.done, total=work.total, facts=work.fitting(description))

        yield show


@contextmanager
def progress_bar(description: str) -> Iterator[Report]:
    """Draw items done, time left and a note on stderr while the block runs; yields what long jobs call."""
    left = TimeLeft()
    with progress_line(description) as show:

        def report(done: int, total: int, note: str = "") -> None:
            count = f"{done:,}/{total:,}" if total else f"{done:,}"
            show(Work((count, left(done, total), note), done, total or None))

        yield report


class _Position:
    """How far a run is, read from the newest line of its metrics."""

    def __init__(self, run: reproduce_runs.Run) -> None:
        self.run, self._left = run, TimeLeft(begun=run.resumes_at)
        # A run that was killed has logged steps that it makes again.
        self._stale = run_folder.RunFolder(run.folder).log_entries()

    def __call__(self) -> Work:
        entries = run_folder.RunFolder(self.run.folder).log_entries()
        newest = next((entry for entry in reversed(entries) if "loss" in entry), None)
        if newest is None or entries == self._stale:
            return Work(())
        step, steps = newest["step"], self.run.steps
        speed = f"{newest['images_per_s']:.1f} images/s"
        facts = (f"{step:,}/{steps:,}", self._left(step, steps), f"loss {newest['loss']:#.4g}", speed)
        return Work(facts, step, steps)


@contextmanager
def runs_progress() -> Iterator[Callable[[runner.RunsState], None]]:
    """Draw a bar for all runs and for each under way, lines elsewhere; print a line when a run starts or ends."""
    live = stderr.is_interactive and not stderr.quiet
    drawn: dict[Path, tuple[TaskID, _Position]] = {}
    count = ""

    def line() -> str:
        under_way = ("  ".join((position.run.title, *position().facts)) for _, position in drawn.copy().values())
        return "; ".join((f"runs  {count}", *under_way))

    bars = progress_bars(transient=False, disable=not live)
    with stderr.lines_in_time(line), bars:
        everything = bars.add_task("runs", total=None, facts="")

        def watch(state: runner.RunsState) -> None:
            nonlocal count
            ended = state.done + len(state.failures)
            count = f"{ended}/{state.total}"
            bars.update(everything, completed=ended, total=state.total, facts=count)
            for run in state.active:
                if run.folder not in drawn:
                    task = bars.add_task(_shortened(run.title), total=run.steps or None, facts="")
                    drawn[run.folder] = task, _Position(run)
                    _say(f"{run.title}: {run.folder}")
                if live:
                    task, position = drawn[run.folder]
                    work = position()
                    bars.update(task, completed=work.done, facts=work.fitting(_shortened(run.title)))
            for folder in drawn.keys() - {run.folder for run in state.active}:
                task, position = drawn.pop(folder)
                bars.remove_task(task)
                _say(f"{position.run.title}: {'failed' if folder in state.failures else 'finished'} ({count})")

        yield watch


def _shortened(title: str) -> str:
    """A run's title with room beside it, cut before its seed."""
    room = max(16, stderr.width - ROOM_FOR_FACTS)
    return title if len(title) <= room else f"{title[: room - 9]}…{title[-8:]}"


def _say(line: str) -> None:
    stderr.print(line, soft_wrap=True)
