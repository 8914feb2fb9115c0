"""Progress of several runs at once, as `reproduce` and `quickstart` have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import TaskID

from cascade_clip.reproduce import runner
from cascade_clip.reproduce import runs as reproduce_runs
from cascade_clip.training import run_folder
from cascade_clip_cli.console import stderr
from cascade_clip_cli.progress import TimeLeft, Work, progress_bars

ROOM_FOR_FACTS = 60
"""Columns beside a run: step, time left, loss, images a second, and a bar."""


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
