"""Load the model of a command for the runtime that computes it; what can be found out before, as loading takes time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cascade_clip import segmenter
from cascade_clip.checkpoint import description, folder
from cascade_clip.config import dataset_address, schema
from cascade_clip.data import catalogue, dataset_location, prepared
from cascade_clip.errors import UserError
from cascade_clip.export import exported_folder
from cascade_clip.inference import exported_network
from cascade_clip.model import dense, network
from cascade_clip_cli.console import stderr

TORCH = "torch"
MANY_IMAGES = 20
"""From so many on, exporting a model can save more time than it takes."""


def recipe_of(checkpoint: str) -> schema.Recipe | None:
    """The recipe of a checkpoint, read from its description; None: training-free, or no checkpoint at all."""
    if dense.is_dense(checkpoint):
        return None
    place = folder.checkpoint_folder(checkpoint)
    return folder.recipe_of_checkpoint(place) if (place / description.CONFIG).is_file() else None


def check_dataset(split: str | None, data: str | None, recipe: schema.Recipe | None, *, stream: bool = False) -> None:
    """Check the split and the dataset that a model is to be looked at with, as far as its own do not decide.

    Raises UserError: an unknown split, no such dataset, or one of other classes.
    """
    chosen = catalogue.get_split(split) if split is not None else None
    if data is not None and dataset_address.is_address(data):
        return
    if data is not None and not Path(data).expanduser().is_dir():
        raise UserError(f'There is no folder "{data}" for --data.')
    own = recipe is None or recipe.data.dataset is not None
    if chosen is None or stream or (data is None and own):
        return
    place = dataset_location.locate_dataset(chosen.dataset, data, class_names=chosen.class_names)
    prepared.PreparedDataset.open(place).check_classes(chosen.class_names, chosen.name)


def check_runtime(runtime: str, precision: str) -> None:
    """Check `--runtime` before anything is read, see `exported_network.check_runtime`."""
    if runtime != TORCH:
        exported_network.check_runtime(runtime, precision)


def load_model(model: str, runtime: str, device: str, precision: str) -> segmenter.CascadeCLIP:
    """Load a checkpoint or training-free model for PyTorch, or an exported one for another runtime.

    Raises UserError: no such model, another kind of model than the runtime computes, or a device or precision that
    cannot be had.
    """
    with stderr.doing("loading the model"):
        if runtime != TORCH:
            return exported_folder.load_exported(model, runtime=runtime, device=device, precision=precision)
        return segmenter.CascadeCLIP.from_pretrained(model, device=device, precision=precision)


def compile_network(model: segmenter.CascadeCLIP, text: Tensor) -> float:
    """Compile for as many classes as `text` (K, C) has; returns the seconds it took.

    Raises UserError: the network cannot be compiled.
    """
    with stderr.doing("compiling"):
        seconds = model.compile(text)
    stderr.print(f"Compiled in {seconds:.0f} s.")
    return round(seconds, 2)


def mention_runtimes(model: segmenter.CascadeCLIP, checkpoint: str, images: int) -> None:
    """Tell on stderr that a trained model may be faster by another runtime, where many images meet a CPU."""
    if images >= MANY_IMAGES and model.device.type == "cpu" and isinstance(model.network, network.CascadeNetwork):
        stderr.print(
            f"{images} images on a CPU: an exported model may be faster. `cascade-clip export {checkpoint} --format"
            " onnx --output exported` tells by which --runtime, and by how much.",
            soft_wrap=True,
        )


if TYPE_CHECKING:
    from torch import Tensor
