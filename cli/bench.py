"""`cascade-clip bench`: time and memory beside the bare CLIP tower."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cascade_clip import output_folder
from cascade_clip.bench import against as bench_against
from cascade_clip.bench import record as bench_record
from cascade_clip.bench import settings as bench_settings
from cascade_clip.errors import UserError
from cascade_clip_cli import options
from cascade_clip_cli.bench_tables import show_changes, show_record
from cascade_clip_cli.checked_options import as_path, input_file, place
from cascade_clip_cli.console import stderr
from cascade_clip_cli.tables import write_json

LARGEST_COUNT = 100_000
_DEFAULT_IMAGES = {"eval": 4, "prepare": 64}


@dataclass(frozen=True)
class MeasureOptions:
    """What is measured, and how often."""

    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", metavar="CKPT", callback=place, help="A model; default: random weights."),
    ] = None
    architecture: Annotated[str, typer.Option("--architecture", help="CLIP architecture of the random weights.")] = (
        bench_settings.ARCHITECTURE
    )
    recipe: options.RecipeOption = None
    overrides: options.SetOption = None
    classes: Annotated[
        int | None,
        typer.Option(
            "--classes", min=1, max=LARGEST_COUNT, help="Default: the checkpoint's own; 171, in training 156."
        ),
    ] = None
    size: Annotated[str, typer.Option("--size", metavar="HxW", help="Pixels of the images, or the crop.")] = "512x512"
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", min=1, max=LARGEST_COUNT, help="Images per training step, or windows per forward pass."
        ),
    ] = None
    images: Annotated[
        int | None, typer.Option("--images", min=1, max=LARGEST_COUNT, help="Images of eval and prepare.")
    ] = None
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=LARGEST_COUNT, help="Rounds that count.")] = 7
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=options.MOST_PROCESSES, help="PyTorch's threads.")
    ] = None
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=options.MOST_PROCESSES, help="Processes of prepare.")
    ] = 1
    precision: options.PrecisionOption = "fp32"
    device: options.DeviceOption = "auto"
    compiled: Annotated[bool, typer.Option("--compile", help="Also the network as torch.compile makes it.")] = False
    plain: Annotated[bool, typer.Option("--plain", help="Also the plain path, in the same rounds.")] = False

    def settings(self, given_kind: str) -> bench_settings.BenchSettings:
        """The same for the library; raises UserError for options that are not of this kind of measurement."""
        kind = bench_settings.parse_kind(given_kind)
        if self.images is not None and kind not in _DEFAULT_IMAGES:
            raise UserError(f"bench {kind} has no --images: it takes turns with one image or step.")
        if kind == "prepare" and (self.plain or self.compiled):
            raise UserError("bench prepare runs no network: leave --plain and --compile out.")
        given = vars(self) | {
            "recipe": self.recipe or bench_settings.RECIPE,
            "overrides": tuple(self.overrides or ()),
            "size": bench_settings.parse_size(self.size),
            "images": self.images or _DEFAULT_IMAGES.get(kind, 1),
        }
        return bench_settings.BenchSettings(kind, **given)


def bench(
    kind: Annotated[str, typer.Argument(metavar="WHAT", help="predict, eval, train or prepare.")],
    *,
    measured: MeasureOptions,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Peak memory, a process a subject.")] = True,
    against: Annotated[
        Path | None,
        typer.Option("--against", parser=as_path, callback=input_file, help="Compare with an earlier result's JSON."),
    ] = None,
    output: options.OutputOption = None,
    json_file: options.JsonOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Measure prediction, evaluation, training or preparation beside the bare CLIP tower.

    All subjects take turns in every round; what counts are ratios to the tower (in `prepare`: to a plain copy of the
    files), which are the same on a busy machine. --output writes bench-WHAT.json.

    Example: cascade-clip bench predict --size 480x640 --threads 2 --plain --json before.json
    """
    # The preparation of drawn images, and that weights are random, need no log lines.
    logging.getLogger("cascade_clip").setLevel(logging.ERROR)
    settings = measured.settings(kind)
    before = bench_against.read_record(against) if against is not None else None
    if before is not None:
        bench_against.check_kinds(before, settings.kind)
    with stderr.doing("measuring") as progress:
        record = bench_record.run_bench(settings, memory=memory, progress=progress)
    show_record(record)
    if before is not None:
        show_changes(before, record)
    for warning in bench_record.warnings_of(record):
        stderr.print(Text("Warning:", style="bold yellow"), warning)
    if output is not None:
        file = output / f"bench-{settings.kind}.json"
        output_folder.check_own_files([file], output_folder.record_has(file, {"subjects"}))
        write_json(file, record)
    if json_file is not None:
        write_json(json_file, record)
