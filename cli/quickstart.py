"""`cascade-clip quickstart`: the whole path on the drawn world, in minutes, without network or GPU."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from cascade_clip import runtime, segmenter
from cascade_clip.config import recipes, schema
from cascade_clip.data import catalogue, dataset_info, images, prepared
from cascade_clip.errors import UserError, readable
from cascade_clip.evaluation import evaluate as evaluation_evaluate
from cascade_clip.evaluation import scores as evaluation_scores
from cascade_clip.files import write_files
from cascade_clip.labels import LabelMap
from cascade_clip.model import stages
from cascade_clip.model.clip import load
from cascade_clip.report import picture_sheets
from cascade_clip.reproduce import runs
from cascade_clip.shapes import prepare
from cascade_clip.training import run_folder, run_training
from cascade_clip_cli import options
from cascade_clip_cli.console import stderr, stdout
from cascade_clip_cli.progress import progress_bar
from cascade_clip_cli.tables import comparison_table
from cascade_clip_cli.training_run import training_progress

RECIPES = {"ZegCLIP": "shapes/zegclip", "Cascade-CLIP": "shapes/cascade-zegclip"}
TRAINING_FREE = "dense:bundled?method=value"
"""The value path of the last block, which the drawn world's published figures are of."""


def quickstart(
    output: options.OutputFolder = Path("quickstart"),
    steps: Annotated[int, typer.Option(min=1, help="Training steps a model.")] = 1000,
    train: Annotated[int, typer.Option(min=1, max=options.MOST_SCENES, help="Scenes for training.")] = 1000,
    val: Annotated[int, typer.Option(min=1, max=options.MOST_SCENES, help="Scenes for validation.")] = 100,
    seed: Annotated[int, typer.Option(min=0, max=options.LARGEST_SEED, help="One seed decides everything.")] = 0,
    device: options.DeviceOption = "auto",
    quiet: options.QuietOption = False,
) -> None:
    """Draw scenes, train ZegCLIP and Cascade-CLIP on the seen classes, compare their scores and show predictions.

    An interrupted start continues when the same command is given again.

    Example: cascade-clip quickstart --output quickstart
    """
    runtime.resolve_device(device)
    data = output / "shapes"
    settings = [f"seed={seed}", f"data.dataset={json.dumps(str(data.resolve()))}", f"train.iterations={steps}"]
    chosen = {name: recipes.load_recipe(recipe, settings) for name, recipe in RECIPES.items()}
    _check_folder(output)
    _check_settings(output, data, chosen, {"train": train, "val": val, "seed": seed})
    stderr.print(
        f"Draws {train + val:,} scenes, scores CLIP without training, and trains two models of {steps:,} steps each, "
        f"all in {output}.",
        soft_wrap=True,
    )
    if not (data / dataset_info.INFO_FILE).exists():
        with progress_bar("draw scenes") as progress:
            prepare.prepare_shapes(data, train=train, val=val, seed=seed, progress=progress)
    dataset = prepared.PreparedDataset.open(data)
    with progress_bar("score training-free CLIP") as progress:
        free = segmenter.CascadeCLIP.from_pretrained(TRAINING_FREE, device=device)
        scores = {
            "CLIP, training-free": evaluation_evaluate.evaluate(free, "shapes-seen", dataset, progress=progress).scores
        }
    scores |= {name: _train(recipe, output / name.lower(), device) for name, recipe in chosen.items()}
    stdout.print(comparison_table(scores, title=f"shapes-seen, {val} validation scenes, percent"))
    models = {name: segmenter.CascadeCLIP.from_pretrained(output / name.lower() / "model") for name in RECIPES}
    picture = output / "predictions.png"
    split = catalogue.get_split("shapes-seen")
    predict = {name: partial(_predicted, model, split) for name, model in models.items()}
    scenes = picture_sheets.images_with_unseen_classes(dataset, split)
    encoded = BytesIO()
    picture_sheets.compare_predictions(predict, split, dataset, scenes).save(encoded, "PNG")
    write_files({picture: encoded.getvalue(), **_scene_files(dataset, scenes, output / "scenes")})
    stdout.print(f"Picture of scenes with unseen classes, their labels and predictions: {picture}")
    stdout.print("Next, segment the same scenes (into other words: --classes 'red star,grass,water'):")
    places = (output / "scenes", output / "cascade-clip" / "model", output / "predictions")
    scene_folder, model, predictions = (shlex.quote(readable(place)) for place in places)
    stdout.print(f"cascade-clip predict {scene_folder} --model {model} --output {predictions}")


def _scene_files(dataset: prepared.PreparedDataset, indices: Sequence[int], folder: Path) -> dict[Path, bytes]:
    """Validation scenes as PNG files, for trying commands on."""
    files = {}
    for record in (dataset.read("val", index) for index in indices):
        encoded = BytesIO()
        Image.fromarray(images.open_image(record.image_bytes)).save(encoded, "PNG")
        files[folder / f"{record.id}.png"] = encoded.getvalue()
    return files


def _check_folder(output: Path) -> None:
    """Check that the folder is new, empty, or that of an earlier start of this command.

    Raises:
        UserError: It holds anything else.
    """
    own = {"shapes", "scenes", "predictions", "predictions.png", *map(str.lower, RECIPES)}
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


def _check_settings(output: Path, data: Path, chosen: Mapping[str, schema.Recipe], scenes: Mapping[str, int]) -> None:
    """Check that what an earlier start left is of the same settings.

    Raises:
        UserError: The scenes or a run are of others.
    """
    if (data / dataset_info.INFO_FILE).exists():
        made = dataset_info.read_dataset_info(data).options
        if {key: made.get(key) for key in scenes} != scenes:
            raise UserError(f'"{data}" holds scenes of another --train, --val or --seed: choose another --output.')
    for name, recipe in chosen.items():
        run = run_folder.RunFolder(output / name.lower())
        planned = stages.with_stages(recipe, load.blocks_of(recipe.clip.architecture))
        if run.recipe_file.exists() and runs.settings_of(run.recipe()) != runs.settings_of(planned):
            raise UserError(f'"{run.folder}" holds a run with other settings: choose another --output.')


def _train(chosen: schema.Recipe, folder: Path, device: str) -> evaluation_scores.Scores:
    """Train one model, or continue where an earlier start left it, and score it on the validation scenes."""
    resume = run_folder.RunFolder(folder).recipe_file.exists()
    stderr.print(f"Training {chosen.name}, {chosen.train.iterations} steps")
    with training_progress() as progress:
        scores = run_training.train(
            chosen, folder, device=device, resume=resume, watch=progress.watch, doing=progress.doing
        ).scores
    if scores is None:
        raise UserError(f'"{folder}" could not be scored, as there are no validation scenes: choose another --output.')
    return scores
