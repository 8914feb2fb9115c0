"""`cascade-clip quickstart`: the whole path on the drawn world, in minutes, without network or GPU."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from cascade_clip import runtime, segmenter
from cascade_clip.config import recipes
from cascade_clip.data import catalogue, dataset_info, prepared
from cascade_clip.errors import UserError, readable
from cascade_clip.files import write_files
from cascade_clip.labels import LabelMap
from cascade_clip.model import stages
from cascade_clip.model.clip import load
from cascade_clip.report import picture_sheets
from cascade_clip.reproduce import runner
from cascade_clip.reproduce import runs as runs_to_compare
from cascade_clip.shapes import prepare
from cascade_clip_cli import options
from cascade_clip_cli.console import stderr, stdout
from cascade_clip_cli.progress import progress_bar, runs_progress
from cascade_clip_cli.tables import comparison_table

SPLIT = "shapes-seen"
RECIPES = {"ZegCLIP": "shapes/zegclip", "Cascade-CLIP": "shapes/cascade-zegclip"}
TRAINING_FREE = "dense:bundled?method=maskclip"
FREE = "MaskCLIP, training-free"
MOST_AT_ONCE = 2
"""Trainings at the same time on a processor: two of these small models use two cores better than one after another."""


def quickstart(
    output: options.OutputFolder = Path("quickstart"),
    steps: Annotated[int, typer.Option(min=1, help="Training steps per model.")] = 2800,
    train: Annotated[int, typer.Option(min=1, max=options.MOST_SCENES, help="Scenes for training.")] = 1000,
    val: Annotated[int, typer.Option(min=1, max=options.MOST_SCENES, help="Scenes for validation.")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=options.LARGEST_SEED, help="Seed of everything random.")] = 0,
    device: options.DeviceOption = "auto",
    quiet: options.QuietOption = False,
) -> None:
    """Draw scenes, train ZegCLIP and Cascade-CLIP on the seen classes, compare their scores and show predictions.

    After an interruption the same command continues it.

    Example: cascade-clip quickstart --output quickstart
    """
    on_processor = runtime.resolve_device(device).type == "cpu"
    devices = runner.devices_for_runs(min(MOST_AT_ONCE, runtime.usable_cores()) if on_processor else 1, device, "fp32")
    data = output / "shapes"
    settings = [f"seed={seed}", f"data.dataset={json.dumps(str(data.resolve()))}", f"train.iterations={steps}"]
    free = runs_to_compare.Run(FREE, output / "clip", "training-free", None, TRAINING_FREE, SPLIT, str(data))
    runs = [free]
    for name, recipe_name in RECIPES.items():
        recipe = recipes.load_recipe(recipe_name, settings)
        # As the run's folder will hold it.
        recipe = stages.with_stages(recipe, load.blocks_of(recipe.clip.architecture))
        runs.append(runs_to_compare.Run(name, output / name.lower(), "inductive", recipe, None, SPLIT))
    _check_folder(output)
    _check_scenes(data, {"train": train, "val": val, "seed": seed})
    for run in runs:
        run.check()
    stderr.print(
        f"Draws {train + val:,} scenes, scores CLIP without training, and trains two models of {steps:,} steps each, "
        f"all in {output}.",
        soft_wrap=True,
    )
    if not (data / dataset_info.INFO_FILE).exists():
        with progress_bar("draw scenes") as progress:
            prepare.prepare_shapes(data, train=train, val=val, seed=seed, progress=progress)
    dataset = prepared.PreparedDataset.open(data)
    unfinished = [run for run in reversed(runs) if run.figures() is None]
    with runs_progress() as draw:
        failures = runner.run_all(unfinished, devices, runner.Commands(), draw)
    if failures:
        failure = next(iter(failures.values()))
        raise UserError(f'{failure.message} All of its output: "{failure.log}".')
    figures = {run.title: (run.figures() or {}).values() for run in runs}
    stdout.print(comparison_table(figures, title=f"{SPLIT}, {val} validation scenes, percent"))
    _show_predictions(output, dataset)


def _show_predictions(output: Path, dataset: prepared.PreparedDataset) -> None:
    """Write scenes with unseen classes, and the picture of both models' predictions; print where, and what is next."""
    models = {name: segmenter.CascadeCLIP.from_pretrained(output / name.lower() / "model") for name in RECIPES}
    picture = output / "predictions.png"
    split = catalogue.get_split(SPLIT)
    predict = {name: partial(_predicted, model, split) for name, model in models.items()}
    scenes = picture_sheets.images_with_unseen_classes(dataset, split)
    records = [dataset.read("val", index) for index in scenes]
    scene_files = {output / "scenes" / f"{record.id}.jpg": record.image_bytes for record in records}
    encoded = BytesIO()
    picture_sheets.compare_predictions(predict, split, dataset, scenes).save(encoded, "PNG")
    write_files({picture: encoded.getvalue(), **scene_files})
    stdout.print(f"Picture of scenes with unseen classes, their labels and predictions: {picture}")
    stdout.print("Next, segment the same scenes (into other words: --classes 'red star,grass,water'):")
    places = (output / "scenes", output / "cascade-clip" / "model", output / "predictions")
    scene_folder, model, predictions = (shlex.quote(readable(place)) for place in places)
    stdout.print(f"cascade-clip predict {scene_folder} --model {model} --output {predictions}")


def _check_folder(output: Path) -> None:
    """Check that the folder is new, empty, or that of an earlier start of this command.

    Raises UserError: it holds anything else.
    """
    runs = [f"{name}{ending}" for name in ("clip", *map(str.lower, RECIPES)) for ending in ("", ".toml", ".log")]
    own = {"shapes", "scenes", "predictions", "predictions.png", *runs}
    found = sorted(entry.name for entry in output.iterdir()) if output.is_dir() else []
    others = [name for name in found if name not in own and not any(name.startswith(f".{one}") for one in own)]
    begun = (output / ".shapes.preparing").is_dir() or dataset_info.DATASET_FOLDER.lies_in(output / "shapes")
    if found and not begun:
        raise UserError(
            f'"{output}" is not empty and holds no quickstart (there is "{(others or found)[0]}"): choose another'
            " --output."
        )


def _predicted(model: segmenter.CascadeCLIP, split: catalogue.Split, image: NDArray[np.uint8]) -> LabelMap:
    return model.segment(image, split=split)[0].labels


def _check_scenes(data: Path, scenes: Mapping[str, int]) -> None:
    """Check that the scenes which an earlier start drew are these; raises UserError where not."""
    if (data / dataset_info.INFO_FILE).exists():
        made = dataset_info.read_dataset_info(data).options
        if {key: made.get(key) for key in scenes} != scenes:
            raise UserError(f'"{data}" holds scenes of another --train, --val or --seed: choose another --output.')
