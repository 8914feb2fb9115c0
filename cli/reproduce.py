"""`cascade-clip reproduce`: every row of a table trained and scored over seeds, beside the paper's figures."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from filelock import FileLock, Timeout

from cascade_clip.data import catalogue, hub_address, prepared
from cascade_clip.errors import UserError
from cascade_clip.model.clip import load
from cascade_clip.reproduce import plan as reproduce_plan
from cascade_clip.reproduce import results as reproduce_results
from cascade_clip.reproduce import runner, table_file
from cascade_clip.reproduce import runs as reproduce_runs
from cascade_clip.training import start
from cascade_clip_cli.console import be_quiet, show_log, stderr, stdout
from cascade_clip_cli.options import (
    DataOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    QuietOption,
    SetOption,
    absolute_location,
)
from cascade_clip_cli.reproduction_views import plan_table, reproduction_progress, result_table
from cascade_clip_cli.tables import STDOUT, write_json, write_text

ALL = "all"
DEFECT = 1


def reproduce(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="table1 … table10, sigma, shapes, all, or a TOML file of your own.")
    ],
    split: Annotated[str, typer.Option("--split", help="A split by name, or a TOML file.")] = "shapes-seen",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of each row, with seeds 0, 1, …")] = 3,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("runs/reproduce"),
    data: DataOption = None,
    overrides: SetOption = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Runs at once; default: one a CUDA device, else one.")
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    json_file: JsonOption = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables as Markdown to this file ('-' for stdout).")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would run, and run nothing.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Train and score every row of a table, and show mean and deviation over seeds beside the paper's figures.

    What is finished is not run again and what was interrupted is resumed, so the same command continues; runs that
    several tables share are done once. OUTPUT/TABLE-SPLIT holds a run folder for each row and seed, results.json and
    results.md. A row that fails does not stop the others.

    Example: cascade-clip reproduce table5 --split shapes-seen --seeds 3
    """
    if quiet:
        be_quiet()
    show_log()
    tables, split, data = _tables(table, split), _absolute_if_file(split), _dataset(data)
    plans = reproduce_plan.plan_tables(tables, split, seeds=seeds, output=output, data=data, overrides=overrides or ())
    failures: Mapping[Path, runner.Failure] = {}
    if not plan:
        with _only_one(output), _terminated_like_interrupted():
            failures = _run(plans, jobs, device, precision)
            _write_results(plans, failures)
    results = [reproduce_results.collect(each, failures) for each in plans]
    if STDOUT not in {json_file, markdown}:
        for result in results:
            stdout.print(plan_table(result) if plan else result_table(result))
    if json_file is not None:
        write_json(json_file, {"tables": [result.to_dict() for result in results]})
    if markdown is not None:
        write_text(markdown, "\n\n".join(result.to_markdown() for result in results))
    stderr.quiet = stderr.quiet and not failures
    for failure in failures.values():
        stderr.print(f"Failed, see {failure.log}: {failure.message}", markup=False, highlight=False, soft_wrap=True)
    if failures:
        mistakes = all(failure.code == runner.USER_MISTAKE for failure in failures.values())
        raise typer.Exit(runner.USER_MISTAKE if mistakes else DEFECT)


def check_before_running(runs: Sequence[reproduce_runs.Run]) -> None:
    """Find what would stop every run in the same way: no dataset, no validation images, no CLIP.

    Raises:
        UserError: One of these is missing.
    """
    recipes = [run.recipe for run in runs if run.recipe is not None]
    for recipe in {(recipe.data.split, recipe.data.dataset): recipe for recipe in recipes}.values():
        folder = start.find_training_data(recipe).folder
        if not prepared.PreparedDataset.open(folder).count("val"):
            raise UserError(
                f'"{folder}" holds no validation images, which the rows are scored on: prepare the dataset with them.'
            )
    for clip in {recipe.clip for recipe in recipes}:
        load.load_clip(clip.architecture, clip.weights)


def _tables(name: str, split: str) -> list[table_file.Table]:
    """The table of this name or file; for "all", every shipped one that is for the split's dataset."""
    if name != ALL:
        return [table_file.read_table(name)]
    dataset = catalogue.get_split(split).dataset
    return [table for table in map(table_file.read_table, table_file.table_names()) if table.dataset in {None, dataset}]


def _absolute_if_file(split: str) -> str:
    """A split's file with its whole path, as runs are resumed from any working folder."""
    file = Path(split).expanduser()
    return str(file.resolve()) if file.is_file() else split


def _dataset(data: str | None) -> str | None:
    """Where all runs read: a folder by its whole path, a dataset on the Hub at its present commit."""
    if data is None:
        return None
    address = hub_address.HubAddress.parse(data)
    return str(address.pinned()) if address else absolute_location(data)


def _run(
    plans: Sequence[reproduce_plan.TablePlan], jobs: int | None, device: str, precision: str
) -> Mapping[Path, runner.Failure]:
    """Run what is not finished, and keep results.json and results.md up to date meanwhile."""
    devices = runner.devices_for_runs(jobs, device, precision)
    runs = list({run.folder: run for plan in plans for run in plan.runs}.values())
    waiting = [run for run in runs if run.figures() is None]
    stderr.print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them finished", highlight=False)
    check_before_running(waiting)
    written = -1

    with reproduction_progress() as draw:

        def watch(state: runner.RunsState) -> None:
            nonlocal written
            draw(state)
            if written != (written := state.done + len(state.failures)):
                _write_results(plans, state.failures)

        return runner.run_all(waiting, devices, runner.Commands(), watch)


@contextmanager
def _only_one(output: Path) -> Iterator[None]:
    """Keep a second `reproduce` from training in the same run folders."""
    output.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(output / ".lock").acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f'Another `cascade-clip reproduce` works in "{output}": wait until it ends, or choose another --output.'
        ) from error
    with lock:
        yield


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let a plain `kill` end the runs under way as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _write_results(plans: Sequence[reproduce_plan.TablePlan], failures: Mapping[Path, runner.Failure]) -> None:
    for plan in plans:
        result = reproduce_results.collect(plan, failures)
        write_json(plan.folder / "results.json", result.to_dict())
        write_text(plan.folder / "results.md", result.to_markdown())
