"""`cascade-clip bench`: time and memory beside the bare CLIP tower."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.table import Column, Table
from rich.text import Text

from cascade_clip import output_folder
from cascade_clip.bench import record as bench_record
from cascade_clip.bench import settings as bench_settings
from cascade_clip.errors import UserError, closest, counted
from cascade_clip_cli import options
from cascade_clip_cli.checked_options import input_file, path_option, place
from cascade_clip_cli.console import stderr, stdout
from cascade_clip_cli.tables import MISSING, plain_table, right, write_json

LARGEST_COUNT = 100_000
LARGEST_SIDE = 4096
_DEFAULT_IMAGES = {"eval": 4, "prepare": 64}
_COLOURS = {"faster": "green", "slower": "red", "spread too wide": "yellow"}


def _count(name: str, text: str, most: int = LARGEST_COUNT) -> Any:
    return typer.Option(name, min=1, max=most, help=text)


@dataclass(frozen=True)
class MeasureOptions:
    """What is measured, and how often."""

    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint", "--model", "-m", metavar="CKPT", callback=place, help="A model; default: random weights."
        ),
    ] = None
    architecture: Annotated[str, typer.Option("--architecture", help="CLIP architecture of the random weights.")] = (
        bench_settings.ARCHITECTURE
    )
    recipe: options.RecipeOption = None
    overrides: options.SetOption = None
    classes: Annotated[int | None, _count("--classes", "Default: the checkpoint's own, else 171 (train: 156).")] = None
    size: Annotated[str, typer.Option("--size", metavar="HxW", help="Pixels of the images, or the crop.")] = "512x512"
    batch: Annotated[int | None, _count("--batch", "Images per training step, or windows per forward pass.")] = None
    images: Annotated[int | None, _count("--images", "eval and prepare: number of images.")] = None
    repeats: Annotated[int, _count("--repeats", "Rounds measured after warming up.")] = 7
    threads: Annotated[int | None, _count("--threads", "Threads of PyTorch.", options.MOST_PROCESSES)] = None
    workers: Annotated[int, _count("--workers", "prepare: number of processes.", options.MOST_PROCESSES)] = 1
    precision: options.PrecisionOption = "fp32"
    device: options.DeviceOption = "auto"
    compiled: Annotated[bool, typer.Option("--compile", help="Also measure the compiled network.")] = False
    plain: Annotated[bool, typer.Option("--plain", help="predict only: also measure the plain path.")] = False

    def settings(self, kind: str) -> bench_settings.BenchSettings:
        """The same for the library; raises UserError for options that are not of this kind of measurement."""
        kinds = get_args(bench_settings.Kind)
        if kind not in kinds:
            raise UserError(f'There is no "{kind}" to measure.{closest(kind, kinds)}')
        if self.images is not None and kind not in _DEFAULT_IMAGES:
            raise UserError(f"bench {kind} has no --images: it takes turns with one image or step.")
        if kind == "prepare" and self.compiled:
            raise UserError("bench prepare runs no network: leave --compile out.")
        if kind != "predict" and self.plain:
            raise UserError(f"bench {kind} has no --plain: the plain path is that of bench predict.")
        given = vars(self) | {
            "recipe": self.recipe or bench_settings.RECIPE,
            "overrides": tuple(self.overrides or ()),
            "size": parse_size(self.size),
            "images": self.images or _DEFAULT_IMAGES.get(kind, 1),
        }
        return bench_settings.BenchSettings(kind, **given)  # type: ignore[arg-type]


def parse_size(given: str) -> tuple[int, int]:
    """Read "480x640" as height and width in pixels, each of 1 to `LARGEST_SIDE`; raises UserError for anything else."""
    sides = given.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 0 < int(side[:6]) <= LARGEST_SIDE for side in sides):
        raise UserError(
            f'--size is HEIGHTxWIDTH in pixels, for example 480x640, each at most {LARGEST_SIDE}; got "{given}".'
        )
    return int(sides[0]), int(sides[1])


def bench(
    kind: Annotated[str, typer.Argument(metavar="WHAT", help="predict, eval, train or prepare.")],
    *,
    measured: MeasureOptions,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure peak memory, too.")] = True,
    against: Annotated[
        Path | None, path_option("--against", check=input_file, help="Compare with an earlier result's JSON.")
    ] = None,
    output: options.OutputOption = None,
    json_file: options.JsonOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Measure prediction, evaluation, training or preparation beside the bare CLIP tower.

    All subjects take turns in every round. Compare the ratios to the tower (in `prepare`: to a plain copy of the
    files), which a busy machine hardly changes. --output writes bench-WHAT.json.

    Example: cascade-clip bench predict --size 480x640 --threads 2 --plain --json before.json
    """
    # The preparation of drawn images, and that weights are random, need no log lines.
    logging.getLogger("cascade_clip").setLevel(logging.ERROR)
    settings = measured.settings(kind)
    before = bench_record.read_record(against, kind) if against is not None else None
    with stderr.doing("measuring") as progress:
        record = bench_record.run_bench(settings, memory=memory, progress=progress)
    _show_record(record)
    if before is not None:
        _show_changes(before, record)
    for warning in bench_record.warnings_of(record):
        stderr.print(Text("Warning:", style="bold yellow"), warning)
    if output is not None:
        file = output / f"bench-{kind}.json"
        output_folder.check_own_files([file], output_folder.record_has(file, {"subjects"}))
        write_json(file, record)
    if json_file is not None:
        write_json(json_file, record)


def _show_record(record: Mapping[str, Any]) -> None:
    """Print times, ratios, operations, memory and facts of one measurement."""
    settings, environment, subjects = record["settings"], record["environment"], record["subjects"]
    title = (
        f"bench {settings['kind']}, {' x '.join(map(str, settings['size']))}, {settings['precision']},"
        f" {environment['device']}, {counted(environment['threads'], 'thread')}: median of"
        f" {counted(settings['repeats'], 'round')}"
    )
    times, costs = [], []
    for name, figures in subjects.items():
        ratio = Text(f"{figures['ratio']:.3f}", style="bold"), _percent(figures["ratio_spread"])
        speed = f"{figures['images_per_second']:.2f}"
        times.append((name, f"{figures['median_ms']:.1f}", _percent(figures["spread"]), *ratio, speed))
        gflops = f"{figures['gflops']:.1f}" if "gflops" in figures else MISSING
        memory = (_mebibytes(figures, key) for key in ("host_mib", "host_above_build_mib", "device_mib"))
        costs.append((name, f"{figures['first_turn_ms']:.0f} ms", gflops, *memory))
    stdout.print(_table(title, ("ms per image", "spread", "ratio", "its spread", "images/s"), times))
    headings = ("first turn", "GFLOP per image", "memory", "above build", "on the device")
    measured = "memory" in subjects[record["reference"]]
    table = _table(f"first turn, operations{', peak memory' if measured else ''}", headings, costs)
    if measured:
        table.caption = "memory: of a process of its own; above build: beyond imports and weights"
    stdout.print(table)
    if (counts := record["facts"].get("parameters")) is not None:
        total, trainable = (f"{counts[name] / 1e6:.1f} M" for name in ("total", "trainable"))
        stdout.print(f"{total} parameters, {trainable} of which train.")
    if "matrix_rates" in record:
        rates = ", ".join(f"{rate:,.0f} GFLOP/s in {name}" for name, rate in record["matrix_rates"].items())
        shares = [f"{name} {100 * figures['share_of_matrix_rate']:.0f} %" for name, figures in subjects.items()]
        stdout.print(
            f"Matrix products run at {rates} by the fastest library here; shares of the rate in"
            f" {settings['precision']}: {', '.join(shares)}."
        )


def _show_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Print ratios and memory of an earlier and this measurement, with what can be concluded."""
    rows = [
        (
            change.subject,
            f"{change.before:.3f}",
            f"{change.after:.3f}",
            f"{change.after / change.before:.3f}",
            Text(change.verdict, style=_COLOURS.get(change.verdict, "dim")),
            MISSING if None in change.memory else f"{change.memory[0]:,.0f} -> {change.memory[1]:,.0f} MiB",
        )
        for change in bench_record.changes_since(before, after)
    ]
    headings = ("before", "now", "quotient", "verdict", "above build")
    table = _table("ratios against the earlier result", headings, rows)
    if differences := bench_record.different_settings(before, after):
        table.caption = f"Not only the code differs: {'; '.join(differences)}."
    stdout.print(table)


def _mebibytes(figures: Mapping[str, Any], key: str) -> str:
    amount = figures.get("memory", {}).get(key)
    return MISSING if amount is None else f"{amount:,.0f} MiB"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if math.isfinite(share) else MISSING


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table of names and figures; columns without any figure are left out."""
    rows = list(rows)
    shown = [number for number in range(1, len(headings) + 1) if any(row[number] != MISSING for row in rows)]
    figures = (right(headings[number - 1], no_wrap=True) for number in shown)
    table = plain_table(title, Column("", no_wrap=True), *figures)
    for row in rows:
        table.add_row(row[0], *(row[number] for number in shown))
    return table
