"""What a command finds out before it loads a model: a mistake in the options should not cost that."""

from __future__ import annotations

from pathlib import Path

from cascade_clip import output_folder
from cascade_clip.checkpoint import description, folder, location
from cascade_clip.config import dataset_address, schema
from cascade_clip.data import catalogue, dataset_info, dataset_location, prepared
from cascade_clip.errors import UserError
from cascade_clip.model import dense


def recipe_of(checkpoint: str) -> schema.Recipe | None:
    """The recipe of a checkpoint, read from its description; None: training-free, or no checkpoint at all."""
    if dense.is_dense(checkpoint):
        return None
    place = location.checkpoint_folder(checkpoint)
    return folder.recipe_of_checkpoint(place) if (place / description.CONFIG).is_file() else None


def check_dataset(split: str | None, data: str | None, recipe: schema.Recipe | None, *, stream: bool = False) -> None:
    """Check the split and the dataset that a model is to be looked at with, as far as its own do not decide.

    Raises:
        UserError: An unknown split, no such dataset, or one of other classes.
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


def check_outside_inputs(output: Path, checkpoint: str) -> None:
    """Check that a folder to write to lies in no prepared dataset and not in the checkpoint; raises UserError."""
    place = output.resolve()
    datasets = [above for above in (place, *place.parents) if (above / dataset_info.INFO_FILE).is_file()]
    output_folder.check_outside(output, [Path(checkpoint).expanduser(), *datasets])
