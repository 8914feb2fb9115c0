"""Options that several commands share, each written once, alone or in groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from cascade_clip.config import dataset_address
from cascade_clip_cli.checked_options import output_folder, path_option, place, result_file
from cascade_clip_cli.console import start_output

LARGEST_SEED = 2**31 - 1
MOST_PROCESSES = 1024
LARGEST_SIDE = 16384
"""Of windows and images, in pixels: a larger one fits into no memory."""
MOST_SCENES = 1_000_000
"""So many drawn scenes take a day."""

RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", "-r", callback=place, help="A recipe by name (see `cascade-clip recipes`) or a TOML file."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. --set train.batch=8; repeatable."
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option("--split", callback=place, help="A split by name, e.g. coco-seen, or a TOML file of your own."),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        callback=place,
        metavar="PATH",
        help="Dataset folder, or hub:ORG/NAME; default: $CASCADE_CLIP_DATA, then the user's data folder.",
    ),
]
StreamOption = Annotated[
    bool, typer.Option("--stream", help="Read a dataset of the Hub from there, keeping nothing on the disk.")
]
RefineOption = Annotated[
    bool | None,
    typer.Option(
        "--refine/--no-refine",
        help="Training-free models: refine scores along the edges of the image (PAMR). Default: as the method has it.",
        show_default=False,
    ),
]
OutputOption = Annotated[Path | None, path_option("--output", "-o", check=output_folder, help="Folder to write to.")]
OutputFolder = Annotated[Path, path_option("--output", "-o", check=output_folder, help="Folder to write to.")]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of everything random.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
CompileOption = Annotated[
    bool, typer.Option("--compile", help="Compile the network first: takes a minute or more, pays off on many images.")
]
RuntimeOption = Annotated[
    str, typer.Option("--runtime", help="torch, or onnx or openvino for a model that `export --format onnx` wrote.")
]
PrecisionOption = Annotated[str, typer.Option("--precision", help="fp32, bf16 or fp16.")]
JsonOption = Annotated[
    Path | None,
    path_option("--json", check=result_file, help="Write the result as JSON to this file ('-' for stdout)."),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", callback=start_output, is_eager=True, help="No progress, results only.")
]
"""Every command has it: as it is read, before any other option, the log is set up."""
ProcessesOption = Annotated[
    int, typer.Option("--nproc", min=1, max=MOST_PROCESSES, help="Local processes, one per device.")
]


def absolute_location(data: str) -> str:
    """Where `--data` points to, whatever the working folder: an address as it is, a path from the root."""

    return data if dataset_address.is_address(data) else str(Path(data).expanduser().resolve())


def with_groups(command: Callable[..., None], **groups: Any) -> Callable[..., None]:
    """Turn parameters that are dataclasses, annotated or given as `groups`, into one option a field, for Typer."""
    kinds: dict[str, Any] = {
        name: kind for name, kind in (get_type_hints(command) | groups).items() if is_dataclass(kind)
    }
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind = kinds.get(parameter.name)
        hints = get_type_hints(kind, include_extras=True) if kind else {}
        parameters += (
            [parameter.replace(name=one.name, default=one.default, annotation=hints[one.name]) for one in fields(kind)]
            if kind
            else [parameter]
        )

    def run(**given: Any) -> None:
        for name, kind in kinds.items():
            given[name] = kind(**{one.name: given.pop(one.name) for one in fields(kind)})
        command(**given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
