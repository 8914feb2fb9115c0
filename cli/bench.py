"""`cascade-clip bench`: time and memory beside the bare CLIP tower."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cascade_clip import output_folder
from cascade_clip.bench import against as bench_against
from cascade_clip.bench import record as bench_record
from cascade_clip.bench import settings as bench_settings
from cascade_clip.errors import UserError
from cascade_clip_cli.bench_tables import show_changes, show_record
from cascade_clip_cli.checked_options import as_path, input_file, place
from cascade_clip_cli.console import be_quiet, show_log, stderr
from cascade_clip_cli.options import (
    MOST_PROCESSES,
    DeviceOption,
    JsonOption,
    OutputOption,
    PrecisionOption,
    QuietOption,
    RecipeOption,
    SetOption,
)
from cascade_clip_cli.tables import write_json

LARGEST_COUNT = 100_000
_DEFAULT_IMAGES = {"eval": 4, "prepare": 64}


def bench(
    kind: Annotated[str, typer.Argument(metavar="WHAT", help="predict, eval, train or prepare.")],
    checkpoint: Annotated[
        str | None,
        typer.Option("--checkpoint", metavar="CKPT", callback=place, help="A model; default: random weights."),
    ] = None,
    architecture: Annotated[
        str, typer.Option("--architecture", help="CLIP architecture of the random weights.")
    ] = bench_settings.ARCHITECTURE,
    recipe: RecipeOption = None,
    overrides: SetOption = None,
    classes: Annotated[
        int | None,
        typer.Option(
            "--classes", min=1, max=LARGEST_COUNT, help="Default: the checkpoint's own; 171, in training 156."
        ),
    ] = None,
    size: Annotated[str, typer.Option("--size", metavar="HxW", help="Pixels of the images, or the crop.")] = "512x512",
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", min=1, max=LARGEST_COUNT, help="Images per training step, or windows per forward pass."
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, max=LARGEST_COUNT, help="Images of eval and prepare.")
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=LARGEST_COUNT, help="Rounds that count.")] = 7,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, max=MOST_PROCESSES, help="PyTorch's threads.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=MOST_PROCESSES, help="Processes of prepare.")] = 1,
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Also the network as torch.compile makes it.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Also the plain path, in the same rounds.")] = False,
    memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Peak memory, a process a subject.")] = True,
    against: Annotated[
        Path | None,
        typer.Option("--against", parser=as_path, callback=input_file, help="Compare with an earlier result's JSON."),
    ] = None,
    output: OutputOption = None,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Measure prediction, evaluation, training or preparation beside the bare CLIP tower.

    All subjects take turns in every round; what counts are ratios to the tower (in `prepare`: to a plain copy of the
    files), which are the same on a busy machine. --output writes bench-WHAT.json.

    Example: cascade-clip bench predict --size 480x640 --threads 2 --plain --json before.json
    """
    if quiet:
        be_quiet()
    show_log()
    # The preparation of drawn images, and that weights are random, need no log lines.
    logging.getLogger("cascade_clip").setLevel(logging.ERROR)
    chosen = bench_settings.parse_kind(kind)
    if images is not None and chosen not in _DEFAULT_IMAGES:
        raise UserError(f"bench {chosen} has no --images: it takes turns with one image or step.")
    if chosen == "prepare" and (plain or compiled):
        raise UserError("bench prepare runs no network: leave --plain and --compile out.")
    settings = bench_settings.BenchSettings(
        kind=chosen,
        checkpoint=checkpoint,
        architecture=architecture,
        recipe=recipe or bench_settings.RECIPE,
        overrides=tuple(overrides or ()),
        classes=classes,
        size=bench_settings.parse_size(size),
        batch=batch,
        images=images or _DEFAULT_IMAGES.get(chosen, 1),
        repeats=repeats,
        threads=threads,
        workers=workers,
        precision=precision,
        device=device,
        compiled=compiled,
        plain=plain,
    )
    before = bench_against.read_record(against) if against is not None else None
    if before is not None:
        bench_against.check_kinds(before, chosen)
    with stderr.doing("measuring") as progress:
        record = bench_record.run_bench(settings, memory=memory, progress=progress)
    show_record(record)
    if before is not None:
        show_changes(before, record)
    for warning in bench_record.warnings_of(record):
        stderr.print(Text("Warning:", style="bold yellow"), warning)
    if output is not None:
        file = output / f"bench-{chosen}.json"
        output_folder.check_own_files([file], output_folder.record_has(file, {"subjects"}))
        write_json(file, record)
    if json_file is not None:
        write_json(json_file, record)
