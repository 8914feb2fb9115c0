"""Fetching official files from the command line: terms first, a question, then progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from cascade_clip.errors import UserError
from cascade_clip_cli.console import stderr


def download(name: str, folder: Path, *, mirror: str | None, agreed: bool) -> None:
    """Show the terms of a benchmark, ask, and fetch what is missing of its files into a folder.

    Args:
        name: coco, voc or context.
        folder: Where the files are put.
        mirror: Address to fetch from instead of the official ones.
        agreed: The user agreed already; nothing is asked.

    Raises:
        UserError: The user did not agree or cannot be asked, a file cannot be fetched, or one that has no address any
            more is missing.
    """
    from cascade_clip.download.download import fetch_dataset
    from cascade_clip.download.official_files import official_files

    official = official_files(name)
    _warn(f"{official.title}. {official.licence}\nTerms: {', '.join(official.terms)}")
    if not agreed:
        _ask()
    with _bars() as progress:
        result = fetch_dataset(name, folder, mirror=mirror, progress=progress)
    for missing in result.by_hand:
        if missing.needed:
            raise UserError(missing.reason)
    names = ", ".join(path.name for path in result.fetched) or "nothing, all files were there"
    stderr.print(f"Fetched into {folder}: {names}", markup=False, highlight=False)


def _warn(text: str) -> None:
    """The terms are shown even where --quiet hides progress."""
    typer.echo(text, err=True)


def _ask() -> None:
    if not sys.stdin.isatty():
        raise UserError("Nobody can be asked whether these terms are accepted: give --yes to accept them.")
    if not typer.confirm("Fetch the files under these terms?", err=True):
        raise UserError("Nothing was fetched, as the terms were not accepted.")


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int | None], None]]:
    """One bar a file, in bytes."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    hidden = stderr.quiet or not stderr.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=stderr, disable=hidden, redirect_stdout=False) as progress:
        tasks = {}

        def report(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield report
