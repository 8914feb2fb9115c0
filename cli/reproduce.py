"""`cascade-clip reproduce`: every row of a table trained and scored over seeds, beside the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from cascade_clip import output_folder
from cascade_clip.data import catalogue, hub_address, prepared
from cascade_clip.errors import UserError, counted
from cascade_clip.evaluation import published_training_free
from cascade_clip.model.clip import load
from cascade_clip.reproduce import plan as reproduce_plan
from cascade_clip.reproduce import results as reproduce_results
from cascade_clip.reproduce import runner, table_file
from cascade_clip.reproduce import runs as reproduce_runs
from cascade_clip.training import start
from cascade_clip_cli import options
from cascade_clip_cli.checked_options import path_option, place, result_file
from cascade_clip_cli.console import stderr, stdout
from cascade_clip_cli.progress import runs_progress
from cascade_clip_cli.tables import MISSING, plain_table, right, write_json, write_text

ALL = "all"
DEFAULT_SPLIT = "shapes-seen"


def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            callback=place,
            help="table1 … table10, sigma, shapes, training-free, all, or a TOML file of your own.",
        ),
    ],
    splits: Annotated[
        list[str] | None,
        typer.Option(
            "--split",
            help="A split by name, or a TOML file; repeatable. For training-free also all: its eight benchmarks.",
            show_default="shapes-seen",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Runs of each row, with seeds 0, 1, …")] = 3,
    output: options.OutputFolder = Path("runs/reproduce"),
    data: options.DataOption = None,
    overrides: options.SetOption = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, max=options.MOST_PROCESSES, help="Runs at once; default: one per GPU, else one."),
    ] = None,
    device: options.DeviceOption = "auto",
    precision: options.PrecisionOption = "fp32",
    json_file: options.JsonOption = None,
    markdown: Annotated[
        Path | None,
        path_option(
            "--markdown", check=result_file, help="Write the tables as Markdown to this file ('-' for stdout)."
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would run, and run nothing.")] = False,
    quiet: options.QuietOption = False,
) -> None:
    """Train and score every row of a table, and show mean and deviation over seeds beside the paper's figures.

    Given again, the command continues: finished runs are kept and interrupted ones resumed. Runs that several tables
    share are done once. OUTPUT/TABLE-SPLIT holds a run folder for each row and seed, results.json and
    results.md. A row that fails does not stop the others. The table training-free trains nothing: it compares methods
    on benchmarks that `cascade-clip prepare-data` makes, with published figures beside ours.

    Example: cascade-clip reproduce table5 --split shapes-seen --seeds 3
    """
    data = _dataset(data)
    plans = [
        plan
        for split in _splits(splits or [DEFAULT_SPLIT], table)
        for plan in reproduce_plan.plan_tables(
            _tables(table, split), split, seeds=seeds, output=output, data=data, overrides=overrides or ()
        )
    ]
    failures: Mapping[Path, runner.Failure] = {}
    if not plan:
        _check_results(plans)
        devices = runner.devices_for_runs(jobs, device, precision)
        with output_folder.only_writer(output):
            failures = _run(plans, devices)
            _write_results(plans, failures)
    results = [reproduce_results.collect(each, failures) for each in plans]
    if plan:
        for result in results:
            stdout.print(_plan_table(result))
    else:
        _show(results)
    if json_file is not None:
        write_json(json_file, {"tables": [result.to_dict() for result in results]})
    if markdown is not None:
        trained = [result.to_markdown() for result in results if not result.plan.table.training_free]
        benchmark_tables = [each.to_markdown() for each in _benchmark_tables(results)]
        write_text(markdown, "\n\n".join([*trained, *benchmark_tables]))
    _leave_with_code(results, failures)


def _check_results(plans: Sequence[reproduce_plan.TablePlan]) -> None:
    """Refuse folders whose results.json or results.md is not ours."""
    for each in plans:
        results_json = each.folder / "results.json"
        of_ours = output_folder.record_has(results_json, {"table", "title", "split", "rows"})
        output_folder.check_own_files([results_json, each.folder / "results.md"], of_ours)


def _show(results: Sequence[reproduce_results.TableResult]) -> None:
    """Print a table of each result, those of training-free methods together."""
    for result in results:
        if not result.plan.table.training_free:
            stdout.print(_result_table(result))
    for benchmarks in _benchmark_tables(results):
        stdout.print(_method_table(benchmarks))


def _leave_with_code(results: Sequence[reproduce_results.TableResult], failures: Mapping[Path, runner.Failure]) -> None:
    """Tell what failed; a training-free table of which no method has a dataset is the user's mistake, too."""
    for failure in failures.values():
        stderr.insist(f"Failed, see {failure.log}: {failure.message}")
    if failures:
        mistakes = all(failure.code == runner.USER_MISTAKE for failure in failures.values())
        raise typer.Exit(runner.USER_MISTAKE if mistakes else 1)
    methods = [row for result in results if result.plan.table.training_free for row in result.rows]
    if methods and all(row.plan.reason for row in methods):
        raise typer.Exit(runner.USER_MISTAKE)


def check_before_running(waiting: Sequence[reproduce_runs.Run], finished: Sequence[reproduce_runs.Run]) -> None:
    """Find what would stop every run in the same way, or put runs on different CLIPs into one table.

    Raises UserError: there is no dataset, no validation image or no CLIP, or CLIP's weights have changed since a run.
    """
    recipes = [run.recipe for run in waiting if run.recipe is not None]
    for recipe in {(recipe.data.split, recipe.data.dataset): recipe for recipe in recipes}.values():
        folder = start.find_training_data(recipe).folder
        if not prepared.PreparedDataset.open(folder).count("val"):
            raise UserError(
                f'"{folder}" holds no validation images, which the rows are scored on: prepare the dataset with them.'
            )
    for clip in {recipe.clip for recipe in recipes}:
        identity = load.load_clip(clip.architecture, clip.weights).identity
        for run in finished:
            if run.recipe is not None and run.recipe.clip == clip and run.clip_sha256 not in {None, identity.sha256}:
                raise UserError(
                    f'"{run.folder}" was trained on other weights of CLIP than those of today: choose another --output,'
                    " or delete it."
                )


def _splits(given: Sequence[str], table: str) -> list[str]:
    """The splits to score on, each once; "all" stands for the benchmarks of training-free methods.

    Raises UserError: all benchmarks for a table that trains.
    """
    if ALL in given and (table == ALL or not table_file.read_table(table).training_free):
        raise UserError(f'"--split {ALL}" is for tables that train nothing, such as training-free: name the split.')
    benchmarks = published_training_free.published_table().benchmarks
    named = [split for each in given for split in (benchmarks if each == ALL else [each])]
    # A split's file by its whole path, as runs are resumed from any working folder.
    files = {split: Path(split).expanduser() for split in named}
    return list(dict.fromkeys(str(file.resolve()) if file.is_file() else split for split, file in files.items()))


def _benchmark_tables(results: Sequence[reproduce_results.TableResult]) -> list[reproduce_results.BenchmarkTable]:
    """The results of each table that trains nothing, on all splits together."""
    by_table: dict[str, list[reproduce_results.TableResult]] = {}
    for result in results:
        if result.plan.table.training_free:
            by_table.setdefault(result.plan.table.name, []).append(result)
    return [reproduce_results.BenchmarkTable(tuple(each)) for each in by_table.values()]


def _tables(name: str, split: str) -> list[table_file.Table]:
    """The table of this name or file; for "all", every shipped one that trains and is for the split's dataset."""
    if name != ALL:
        return [table_file.read_table(name)]
    dataset = catalogue.get_split(split).dataset
    tables = map(table_file.read_table, table_file.table_names())
    return [table for table in tables if table.dataset in {None, dataset} and not table.training_free]


def _dataset(data: str | None) -> str | None:
    """Where all runs read: a folder by its whole path, a dataset on the Hub at its present commit."""
    if data is None:
        return None
    address = hub_address.HubAddress.parse(data)
    return str(address.pinned()) if address else options.absolute_location(data)


def _run(
    plans: Sequence[reproduce_plan.TablePlan], devices: Sequence[runner.RunDevice]
) -> Mapping[Path, runner.Failure]:
    """Run what is not finished, and keep results.json and results.md up to date meanwhile."""
    runs = list({run.folder: run for plan in plans for run in plan.runs}.values())
    waiting = [run for run in runs if run.figures() is None]
    finished = [run for run in runs if run not in waiting]
    stderr.print(f"{counted(len(runs), 'run')}, {len(finished)} of them finished")
    check_before_running(waiting, finished)
    written = -1

    with runs_progress() as draw:

        def watch(state: runner.RunsState) -> None:
            nonlocal written
            draw(state)
            if written != (written := state.done + len(state.failures)):
                _write_results(plans, state.failures)

        return runner.run_all(waiting, devices, runner.Commands(), watch)


def _write_results(plans: Sequence[reproduce_plan.TablePlan], failures: Mapping[Path, runner.Failure]) -> None:
    for plan in plans:
        result = reproduce_results.collect(plan, failures)
        write_json(plan.folder / "results.json", result.to_dict())
        shown = reproduce_results.BenchmarkTable((result,)) if plan.table.training_free else result
        write_text(plan.folder / "results.md", shown.to_markdown())


def _result_table(result: reproduce_results.TableResult) -> Table:
    """Mean and deviation of every row, beside the paper's figures where it has some."""
    headings, rows = result.cells()
    table = _table(result, result.caption)
    for number, heading in enumerate(headings):
        notes = number > len(reproduce_runs.FIGURES) and not heading
        table.add_column(
            heading, justify="right" if heading else "left", no_wrap=not notes, style="dim" if notes else None
        )
    for row in rows:
        table.add_row(*(row if len(row) > 1 else [Text(row[0], style="italic")]))
    return table


def _method_table(benchmarks: reproduce_results.BenchmarkTable) -> Table:
    """Methods x benchmarks; published figures are dim."""
    headings, rows = benchmarks.cells()
    table = plain_table(benchmarks.title, *(right(heading, no_wrap=True) if heading else "" for heading in headings))
    table.caption = benchmarks.caption
    for row in rows:
        table.add_row(*row, style="dim" if row[0].startswith(" ") else None)
    return table


def _plan_table(result: reproduce_results.TableResult) -> Table:
    """Every run of a table: how many steps it takes and how far it is."""
    waiting = {run.run.folder: run.run for row in result.rows for run in row.runs if run.figures is None}
    steps = sum(run.steps - run.resumes_at for run in waiting.values())
    to_do = f"{counted(len(waiting), 'run')} to do, {counted(steps, 'training step')}"
    columns = ("", Column("mode", no_wrap=True), right("steps", no_wrap=True), Column("state", overflow="fold"))
    table = _table(result, f"{to_do}, in {result.plan.folder}.{result.compared}", *columns)
    told = ""
    for row in result.rows:
        planned = row.plan.row
        name = " ".join(part for part in ((planned.section or "").replace("_", " "), planned.shown) if part)
        if not row.runs:
            notes = "; ".join(row.notes)
            table.add_row(
                name, MISSING if planned.quoted else planned.mode, MISSING, notes if notes != told else "as above"
            )
            told = notes
        for run in row.runs:
            count = f"{run.run.steps:,}" if run.run.steps else MISSING
            state = run.status
            if state == "interrupted":
                state += f", resumes at step {run.run.resumes_at:,}"
            folder = run.folder(result.plan.folder)
            if folder != f"{planned.short}/seed{run.seed}":
                state += f", shared: {folder}"
            table.add_row(f"{name}, seed {run.seed}", planned.mode, count, state)
    return table


def _table(result: reproduce_results.TableResult, caption: str, *columns: Column | str) -> Table:
    table = plain_table(f"{result.plan.table.name} on {result.plan.split}: {result.plan.table.title}", *columns)
    table.caption = caption
    return table
