"""What `prepare-data` does before and after the preparation itself, the same for every source."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

from cascade_clip import output_folder, progress, reachability, runtime
from cascade_clip.data import catalogue, dataset_info
from cascade_clip.errors import UserError, counted, readable
from cascade_clip.files import data_folder
from cascade_clip.preparation import official_files, push
from cascade_clip.report import contact_sheet
from cascade_clip_cli.console import stderr, stdout
from cascade_clip_cli.prepare_options import Official, Shared
from cascade_clip_cli.progress import TimeLeft, Work, progress_bar, progress_bars
from cascade_clip_cli.tables import plain_table, right, write_json


@dataclass(frozen=True)
class Target:
    """The dataset that is about to be written."""

    shared: Shared
    name: str
    folder: Path


def check(shared: Shared, source_name: str, source: str | Path | None = None) -> Target:
    """Choose name and folder of the prepared dataset, and find what would stop the command later.

    Raises:
        UserError: The output folder holds something else, or the upload would not be allowed.
    """
    name = shared.name or readable(_default_name(source_name, shared.output, source))
    folder = shared.output or data_folder() / name
    inputs = [Path(source).expanduser()] if source is not None else []
    output_folder.check_output_folder(folder, dataset_info.DATASET_FOLDER, inputs=inputs, overwrite=shared.overwrite)
    _check_upload(source_name, shared)
    return Target(shared, name, folder)


@contextmanager
def writing(target: Target, description: str) -> Iterator[dict[str, Any]]:
    """Draw a progress bar while the block prepares the dataset; then print what it holds, and upload it.

    Gives the arguments that all preparation functions share.
    """
    shared, folder = target.shared, target.folder
    with progress_bar(description) as report:
        yield {
            "output": folder,
            "name": target.name,
            "workers": shared.workers or runtime.usable_cores(),
            "overwrite": shared.overwrite,
            "progress": report,
            "picture": contact_sheet.write_contact_sheet,
        }
    _show_dataset(folder, dataset_info.read_dataset_info(folder.resolve()), shared.json_file)
    sheet = folder / dataset_info.CONTACT_SHEET
    stdout.print(f"Contact sheet of images with their masks, to look at before training: {sheet}")
    if shared.push_to_hub is not None:
        with stderr.doing(f"uploading to {shared.push_to_hub}"):
            address = push.push_dataset(
                folder, shared.push_to_hub, private=shared.private, rights_checked=shared.rights_checked
            )
        stderr.print(f"Uploaded to {address}")


def _default_name(source_name: str, output: Path | None, source: str | Path | None) -> str:
    """The benchmark's name; for data of the user's own that of the output folder, else of the source."""
    if source_name not in ("annotations", "folder", "hub"):
        return source_name
    if output is not None:
        return output.absolute().name
    return Path(source).absolute().name.partition("@")[0] if source else source_name


def _check_upload(source_name: str, shared: Shared) -> None:
    """Say before hours of work what would stop the upload after them."""
    allowed = shared.private or shared.rights_checked
    if shared.push_to_hub is None:
        if allowed:
            raise UserError("--private and --rights-checked belong to --push-to-hub ORG/NAME, which was not given.")
        return
    push.repository_name(shared.push_to_hub)
    if not allowed:
        push.check_publishing(source_name)
    reachability.check_hub()


def official_source(name: str, official: Official) -> Path:
    """Find a benchmark's official files, and download what is missing where that is asked for.

    Without --source a download goes into the user's data folder; --mirror implies --download. Raises UserError where
    neither a source nor a download was asked for, the user did not agree or cannot be asked, or a file cannot be got.
    """
    facts = catalogue.benchmark(name)
    download = official.download or official.mirror
    if official.source is None and not download:
        raise UserError(
            f"Say where {facts.title} is: --source FOLDER with the official files, packed or unpacked; or give "
            "--download to download them."
        )
    files_of = facts.files_of or name
    folder = Path(official.source).expanduser() if official.source else data_folder() / "downloads" / files_of
    if download:
        if folder.is_file():
            raise UserError(f"--download puts files into a folder; {folder} is a file.")
        _agree(name, agreed=official.yes)
        with _bars() as report:
            fetched = official_files.fetch_dataset(name, folder, mirror=official.mirror, progress=report)
        names = ", ".join(path.name for path in fetched) or "nothing, all files were there"
        stderr.print(f"Downloaded into {folder}: {names}")
    return folder


def _agree(name: str, *, agreed: bool) -> None:
    facts = catalogue.benchmark(name)
    # The terms are shown even where --quiet hides progress.
    stderr.insist(f"{facts.title}. {facts.licence}\nTerms: {', '.join(facts.terms)}")
    if agreed:
        return
    if not sys.stdin.isatty():
        raise UserError("These terms cannot be confirmed without a terminal: give --yes to accept them.")
    if not typer.confirm("Download the files under these terms?", err=True):
        raise UserError("Nothing was downloaded, as the terms were not accepted.")


@contextmanager
def _bars() -> Iterator[progress.Progress]:
    """One bar a file, in bytes; lines where there is no terminal."""
    shown: dict[str, tuple[TaskID, TimeLeft, Work]] = {}

    def line() -> str:
        return "; ".join("  ".join((name, *work.facts)) for name, (_, _, work) in shown.copy().items()) or "downloading"

    bars = progress_bars(transient=False, disable=stderr.quiet or not stderr.is_interactive)
    with stderr.lines_in_time(line), bars:

        def report(done: int, total: int, name: str) -> None:
            if name not in shown:
                shown[name] = bars.add_task(name, total=total or None, facts=""), TimeLeft(begun=done), Work(())
            task, left, _ = shown[name]
            size = f"{done / 1e6:,.1f}/{total / 1e6:,.1f} MB" if total else f"{done / 1e6:,.1f} MB"
            work = Work((size, left(done, total)))
            shown[name] = task, left, work
            bars.update(task, completed=done, total=total or None, facts=work.fitting(name))

        yield report


def _show_dataset(output: Path, info: dataset_info.DatasetInfo, json_file: Path | None) -> None:
    """Print counts, sizes and pixels of each class, or write the same as JSON where asked for."""
    if json_file is not None:
        write_json(json_file, info.model_dump(mode="json"))
    stdout.print(_pixel_table(info))
    for part, content in info.parts.items():
        sizes = ""
        if content.smallest and content.largest:
            (low_h, low_w), (high_h, high_w) = content.smallest, content.largest
            range_of_sizes = dict.fromkeys((f"{low_w} x {low_h}", f"{high_w} x {high_h}"))
            sizes = f", {' to '.join(range_of_sizes)} pixels"
        stdout.print(f"{part}: {counted(content.images, 'image')}{sizes}")
    stdout.print(f"Written to {output}")


def _pixel_table(info: dataset_info.DatasetInfo) -> Table:
    """Pixels and share of each class, a pair of columns a part."""
    figures = (right(heading) for part in info.parts for heading in (f"{part} pixels", "share"))
    table = plain_table(f"{info.name}: {counted(len(info.classes), 'class')}", "class", *figures)
    rows = [[Text(name)] for name in (*info.classes, "ignored")]
    for content in info.parts.values():
        pixels = (*content.pixels, content.ignored_pixels)
        whole = sum(pixels) or 1
        for row, count in zip(rows, pixels, strict=True):
            row += [Text(f"{count:,}"), Text(f"{count / whole:.1%}")]
    for row in rows:
        table.add_row(*row)
    return table
