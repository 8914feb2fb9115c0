"""What `cascade-clip cka` compares: models by any name, images of a data set or files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade_clip import runtime, segmenter
from cascade_clip.analysis import layer_tokens
from cascade_clip.analysis import observed_model as analysis_observed_model
from cascade_clip.errors import UserError
from cascade_clip.evaluation import evaluate
from cascade_clip.inference import inputs
from cascade_clip_cli.console import stderr

if TYPE_CHECKING:
    from accelerate import PartialState

OWN_CLIP = "clip"
"""Value of `--against` for the CLIP that the model is built on."""
FIRST_SPLIT = "shapes"
"""The split whose images are used where neither the options nor the model name one."""


def load_models(
    given: str, against: str | None, device: str, precision: str
) -> tuple[
    PartialState,
    analysis_observed_model.ObservedModel,
    analysis_observed_model.ObservedModel | None,
    segmenter.CascadeCLIP,
]:
    """Load the models that are compared; names are checked before anything slow is loaded.

    Args:
        given: The model, as `model_name` takes it.
        against: `clip`, another model, or None.
        device: Value of --device.
        precision: Value of --precision.

    Returns:
        The place of this process among all, the model, the other one if any, and the model as it was loaded.

    Raises:
        UserError: A model that cannot be loaded, or CLIP against itself.
    """
    wanted = [given] if against is None or against == OWN_CLIP else [given, against]
    names = [analysis_observed_model.model_name(name) for name in wanted]
    state, own_device = runtime.own_process(device)
    with stderr.status("loading the model"):
        loaded = [segmenter.CascadeCLIP.from_pretrained(name, device=own_device, precision=precision) for name in names]
    if against is None:
        return state, analysis_observed_model.observed_model(loaded[0], given, given), None, loaded[0]
    main = analysis_observed_model.observed_model(
        loaded[0], given, f"{given}, after training" if against == OWN_CLIP else given
    )
    if against != OWN_CLIP:
        return state, main, analysis_observed_model.observed_model(loaded[1], against, against), loaded[0]
    if main.head is None:
        raise UserError(f'"{given}" is CLIP as it is: --against clip compares a trained model with the CLIP below it.')
    return state, main, analysis_observed_model.observed_clip(loaded[0], "CLIP", "CLIP, before training"), loaded[0]


def find_image_set(
    model: segmenter.CascadeCLIP,
    files: list[str] | None,
    data: str | None,
    split: str | None,
    *,
    stream: bool,
    limit: int,
) -> layer_tokens.ImageSet:
    """Find the images that both models get.

    Args:
        model: Its split is used where neither files nor a data set are named; if it has none, `FIRST_SPLIT`.
        files: Values of --images.
        data: Value of --data.
        split: Value of --split.
        stream: Read a remote dataset without downloading it.
        limit: Only so many, spread evenly; 0: all.

    Raises:
        UserError: Files and a data set at once, or no images.
    """
    if files:
        if data is not None or split is not None:
            raise UserError("Give either --images or --data and --split: both say what is looked at.")
        return layer_tokens.file_images(inputs.find_images(files), ", ".join(files), limit=limit)
    if data is None and split is None and model.split is None:
        split = FIRST_SPLIT
    _, dataset = evaluate.find_dataset(model, split, data, stream=stream)
    found = layer_tokens.dataset_images(dataset, limit=limit)
    if not found.count:
        raise UserError(f'The data set "{dataset.name}" has no validation images; name image files with --images.')
    return found
