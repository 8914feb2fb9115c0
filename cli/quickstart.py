"""`cascade-clip quickstart`: the whole path on the drawn world, in minutes, without network or GPU."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cascade_clip_cli.options import DeviceOption, QuietOption

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cascade_clip.data.catalogue import Split
    from cascade_clip.evaluation.scores import Scores
    from cascade_clip.labels import LabelMap
    from cascade_clip.segmenter import CascadeCLIP

RECIPES = {"ZegCLIP": "shapes/zegclip", "Cascade-CLIP": "shapes/cascade-zegclip"}
TRAINING_FREE = "dense:bundled"


def quickstart(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("quickstart"),
    steps: Annotated[int, typer.Option(min=1, help="Training steps a model.")] = 1000,
    train: Annotated[int, typer.Option(min=1, help="Scenes for training.")] = 1000,
    val: Annotated[int, typer.Option(min=1, help="Scenes for validation.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="One seed decides everything.")] = 0,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Draw scenes, train ZegCLIP and Cascade-CLIP on the seen classes, compare their scores and show predictions.

    An interrupted start continues when the same command is given again.

    Example: cascade-clip quickstart --output quickstart
    """
    from cascade_clip_cli.console import be_quiet, show_log, stdout
    from cascade_clip_cli.tables import comparison_table

    if quiet:
        be_quiet()
    show_log()
    data = output / "shapes"
    _draw_scenes(data, train, val, seed)
    scores = {"CLIP, training-free": _score_training_free(data, device)}
    scores |= {
        name: _train(recipe, output / name.lower(), data, steps, seed, device) for name, recipe in RECIPES.items()
    }
    stdout.print(comparison_table(scores, title=f"shapes-seen, {val} scenes"))
    picture = output / "predictions.png"
    _draw_predictions(output, data, picture)
    stdout.print(f"Scenes with unseen classes: {picture}", highlight=False)
    model = output / "cascade-clip" / "model"
    stdout.print(f'Next: cascade-clip predict IMAGE --model {model} --classes "red star,grass,water"', highlight=False)


def _draw_scenes(folder: Path, train: int, val: int, seed: int) -> None:
    """Draw the scenes, unless an earlier start did."""
    from cascade_clip.data.dataset_info import INFO_FILE
    from cascade_clip.shapes.prepare import prepare_shapes
    from cascade_clip_cli.console import progress_bar

    if not (folder / INFO_FILE).exists():
        with progress_bar("draw scenes") as progress:
            prepare_shapes(folder, train=train, val=val, seed=seed, progress=progress)


def _score_training_free(data: Path, device: str) -> Scores:
    """What the bundled CLIP's patch tokens know without any training on masks."""
    from cascade_clip.data.catalogue import get_split
    from cascade_clip.data.prepared import PreparedDataset
    from cascade_clip.evaluation.run import evaluate
    from cascade_clip.evaluation.scores import scores_from_confusion
    from cascade_clip.segmenter import CascadeCLIP
    from cascade_clip_cli.console import progress_bar

    split = get_split("shapes-seen")
    model = CascadeCLIP.from_pretrained(TRAINING_FREE, device=device)
    text, recipe = model.text_embeddings_for(split), model.recipe
    with progress_bar("score training-free CLIP") as progress:
        confusion = evaluate(
            model.network,
            text,
            split,
            PreparedDataset.open(data),
            recipe.data,
            recipe.inference,
            device=model.device,
            dtype=model.dtype,
            progress=progress,
        )
    return scores_from_confusion(confusion.cpu().numpy(), split.seen_indices, split.unseen_indices, split.class_names)


def _train(recipe: str, folder: Path, data: Path, steps: int, seed: int, device: str) -> Scores:
    """Train one model, or continue where an earlier start left it, and score it on the validation scenes."""
    from cascade_clip.config.recipes import load_recipe
    from cascade_clip.errors import UserError
    from cascade_clip.training.run_folder import RunFolder
    from cascade_clip.training.run_training import train
    from cascade_clip_cli.console import stderr
    from cascade_clip_cli.training_run import training_progress

    settings = [f"seed={seed}", f'data.dataset="{data.resolve().as_posix()}"', f"train.iterations={steps}"]
    chosen = load_recipe(recipe, settings)
    run = RunFolder(folder)
    resume = run.recipe_file.exists()
    if resume and run.recipe() != chosen:
        raise UserError(f'"{folder}" holds a run with other settings: choose another --output.')
    stderr.print(f"Training {chosen.name}, {chosen.train.iterations} steps", highlight=False)
    with training_progress() as watch:
        scores = train(chosen, folder, device=device, resume=resume, watch=watch).scores
    if scores is None:
        raise UserError(f'"{data}" holds no validation scenes: choose another --output.')
    return scores


def _draw_predictions(output: Path, data: Path, picture: Path) -> None:
    """Put image, label and both models' predictions of some scenes with unseen classes on one sheet."""
    from cascade_clip.data.catalogue import get_split
    from cascade_clip.data.prepared import PreparedDataset
    from cascade_clip.report.picture_sheets import compare_predictions, images_with_unseen_classes
    from cascade_clip.segmenter import CascadeCLIP

    dataset, split = PreparedDataset.open(data), get_split("shapes-seen")
    models = {name: CascadeCLIP.from_pretrained(output / name.lower() / "model") for name in RECIPES}
    predict = {name: partial(_predicted, model, split) for name, model in models.items()}
    compare_predictions(predict, split, dataset, images_with_unseen_classes(dataset, split)).save(picture)


def _predicted(model: CascadeCLIP, split: Split, image: NDArray[np.uint8]) -> LabelMap:
    return model.segment(image, split=split)[0].labels
