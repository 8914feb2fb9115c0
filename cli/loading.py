"""The model of a command and the classes it looks for, and what can be found out before the model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cascade_clip import runtime as devices
from cascade_clip import segmenter
from cascade_clip.checkpoint import description, folder
from cascade_clip.config import class_names, dataset_address, schema
from cascade_clip.data import catalogue, dataset_location, prepared
from cascade_clip.errors import UserError
from cascade_clip.export import exported_folder
from cascade_clip.inference import exported_network, query_vocabulary
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
    return description.read_config(place).recipe if (place / description.CONFIG).is_file() else None


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
    """Tell on stderr what may make a trained model faster where many images meet a CPU: bf16, another runtime."""
    if images >= MANY_IMAGES and model.device.type == "cpu" and isinstance(model.network, network.CascadeNetwork):
        bf16 = "--precision bf16 or " if model.dtype.itemsize > 2 and devices.has_bf16() else ""
        stderr.print(
            f"{images} images on a CPU: {bf16}an exported model may be faster. `cascade-clip export {checkpoint}"
            " --format onnx --output exported` tells by which --runtime, and by how much.",
            soft_wrap=True,
        )


if TYPE_CHECKING:
    from torch import Tensor


class ClassChoice(NamedTuple):
    """Either names or a split."""

    names: tuple[str, ...] | None
    split: catalogue.Split | None

    def spoken_names(self) -> tuple[str, ...]:
        """The K names as results show them: of synonyms the first."""
        if self.split is not None:
            return self.split.class_names
        return tuple(name.split("|")[0].strip() for name in self.names or ())


def chosen_classes(classes: str | None, classes_file: Path | None, split: str | None) -> ClassChoice | None:
    """Read and check the classes before anything slow is loaded; None: the user named none.

    Raises UserError: several sources at once, an empty or repeated name, an unknown split.
    """
    given = {"--classes": classes, "--classes-file": classes_file, "--split": split}
    used = [option for option, value in given.items() if value is not None]
    if len(used) > 1:
        raise UserError(f"Give only one of {' and '.join(used)}: each names the classes to look for.")
    if split is not None:
        return ClassChoice(None, catalogue.get_split(split))
    if classes_file is not None:
        names = class_names.read_class_names(classes_file)
    elif classes is not None:
        names = class_names.listed_names(classes, "--classes")
    else:
        return None
    class_names.class_synonyms(names)
    return ClassChoice(tuple(names), None)


def background_of(
    given: str | None, without: bool, model: str, choice: ClassChoice | None
) -> tuple[str, ...] | bool | None:
    """Read and check --background WORDS ("default": the toolkit's own) and --no-background before a model is loaded.

    Gives what `CascadeCLIP.vocabulary` takes: words; True: the toolkit's; False: none; None: as suits the classes.
    Raises UserError: both options, a model that is trained, or words that do not fit.
    """
    if given is None:
        return False if without else None
    if without:
        raise UserError("--background and --no-background contradict each other: give one of them.")
    if not dense.is_dense(model):
        raise UserError(
            f'--background is for training-free models (dense:CLIP), but "{model}" is trained: give --threshold 0.5,'
            " for example, so that pixels with a lower score belong to no class."
        )
    if given == "default":
        return True
    if Path(given).is_file():
        raise UserError(f'--background took "{given}", a file, for its words: write --background default.')
    words = tuple(word.strip() for word in given.split(","))
    classes = class_names.class_synonyms(choice.names) if choice is not None and choice.names is not None else []
    query_vocabulary.background_words(words, classes)
    return words


def own_classes(model: segmenter.CascadeCLIP) -> ClassChoice:
    """The classes that the model was trained on; raises UserError where it does not say which."""
    if model.split is None:
        raise UserError("Say what to look for: --classes road,tree,sky or --classes-file FILE or --split NAME.")
    return ClassChoice(None, model.split)
