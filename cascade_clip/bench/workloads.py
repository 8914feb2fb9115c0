"""The four kinds of measurement: what runs, and beside which reference."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from cascade_clip.bench.measured_model import (
    BenchModel,
    bare_tower,
    count_parameters,
    draw_folder,
    drawn_dataset,
    drawn_image,
    load_bench_model,
)
from cascade_clip.bench.settings import BenchSettings, Kind
from cascade_clip.compilation import compiled, compiling
from cascade_clip.config.recipes import change_recipe
from cascade_clip.data.resize import test_size
from cascade_clip.data.samples import TrainSamples, train_loader
from cascade_clip.data.transforms import TrainTransform
from cascade_clip.errors import UserError, counted
from cascade_clip.evaluation.evaluate import evaluate
from cascade_clip.inference.class_scores import labels_from_scores
from cascade_clip.inference.predictor import prepare_image
from cascade_clip.inference.sliding_window import slide_scores, window_boxes
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.preparation.prepare_folder import prepare_source_folder
from cascade_clip.runtime import check_memory, process_state
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training.labelling import SeenLabels
from cascade_clip.training.step import TrainStep, build_optimizer, set_learning_rate

TOWER, COPY = "bare tower", "plain copy"
COMPILED = ", compiled"
_IMAGES, _IMAGE_SIZE = 8, (480, 640)
"""The images that crops are cut from: as large as COCO's."""
_ACCELERATE_PRECISION = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}


class TrainingSteps:
    """Steps of one network on drawn images, `batch` together, of classes with the embeddings `text` (K, C)."""

    def __init__(self, measured: BenchModel, settings: BenchSettings, folder: Path) -> None:
        """Draw images into an empty folder, build the optimiser and load one batch.

        Raises UserError for a training-free model, or a crop that does not fit the patches.
        """
        (crop, _), self.batch = settings.size, settings.batch or 1
        self.network = _trainable(measured, crop)
        recipe = measured.model.recipe
        recipe = change_recipe(recipe, [f"data.crop={crop}", f"train.batch={self.batch}", "train.workers=0"])
        measured.model.recipe = recipe
        device, precision = measured.model.device, _ACCELERATE_PRECISION[measured.model.dtype]
        process_state(device)
        accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu")
        optimizer = build_optimizer(self.network, recipe.train)
        _, prepared_optimizer = accelerator.prepare(self.network, optimizer)
        set_learning_rate(optimizer, 0, recipe.train)
        labeller = SeenLabels(measured.split)
        self.text = measured.text[list(labeller.fed)]
        dataset = drawn_dataset(folder, _IMAGES, _IMAGE_SIZE, measured.split)
        samples, micro_batch = TrainSamples(dataset, TrainTransform(recipe.data), recipe.seed), recipe.train.micro_batch
        self._loaded = [*train_loader(samples, start_step=0, steps=1, batch=self.batch, micro_batch=micro_batch)]
        self._train_step = TrainStep(
            accelerator, self.network, prepared_optimizer, self.text, labeller, recipe.loss, recipe.region_loss
        )

    def step(self, network: nn.Module) -> None:
        """Make one step on the loaded batch; `network` is the network itself or what `torch.compile` made of it."""
        network.train()
        replace(self._train_step, network=network)(self._loaded)


def _trainable(measured: BenchModel, crop: int) -> CascadeNetwork:
    """The network, once it is known that the step asked for can be made."""
    recipe, network = measured.model.recipe, measured.network
    if not isinstance(network, CascadeNetwork):
        raise UserError(f'"{recipe.name}" is training-free: there is no training step to measure.')
    if crop % network.patch_size:
        raise UserError(f"The crop of {crop} pixels is no multiple of this CLIP's patches of {network.patch_size}.")
    return network


class Subject(NamedTuple):
    """Something that is timed: a call, and how many images one call takes."""

    call: Callable[[], object]
    images: int = 1


@dataclass
class Workload:
    """What takes turns: subjects by name, in the order of their turns, the first the reference of all ratios.

    `facts` are what else is worth telling: classes, windows, parameters.
    """

    device: torch.device
    subjects: dict[str, Subject]
    facts: dict[str, Any] = field(default_factory=dict)


def build_workload(settings: BenchSettings, folder: Path) -> Workload:
    """Build what is measured, and set the number of threads that the settings ask for.

    The folder, which is empty, is for drawn images and must outlive the workload. Raises UserError for a model, size,
    device or precision that cannot be had.
    """
    (height, width), batch = settings.size, settings.batch or 1
    images = f"A batch of {counted(batch, 'image')} of {height:,} x {width:,} pixels"
    check_memory(3 * 4 * batch * height * width, images, "give a smaller --size or --batch")
    check_memory(
        4 * 2**8 * settings.class_count, f"A vocabulary of {counted(settings.class_count, 'class')}", "give fewer"
    )
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return WORKLOADS[settings.kind](settings, folder)


def _predict(settings: BenchSettings, folder: Path) -> Workload:
    """One image to its label map, from uint8 pixels to labels at its own size."""
    measured = load_bench_model(settings)
    image, _ = drawn_image(0, settings.size, len(measured.text))

    def labels(network: nn.Module) -> Tensor:
        return _with(measured.model, network).predictor().label_image(image, measured.vocabulary).labels

    subjects = _variants("label map", labels, measured.network, settings)
    if settings.plain:
        subjects["label map, plain"] = Subject(partial(_plain_labels, measured, image))
    return _inference(settings, measured, subjects)


def _eval(settings: BenchSettings, folder: Path) -> Workload:
    """Several images of a prepared dataset to a confusion matrix."""
    measured = load_bench_model(settings)
    dataset = drawn_dataset(folder, settings.images, settings.size, measured.split)

    def confusion(network: nn.Module) -> Tensor:
        model = _with(measured.model, network)
        found = evaluate(model, measured.split, dataset, part="train", text_embeddings=measured.text)
        return torch.from_numpy(found.confusion)

    subjects = _variants("evaluation", confusion, measured.network, settings, settings.images)
    return _inference(settings, measured, subjects)


def _train(settings: BenchSettings, folder: Path) -> Workload:
    """One optimiser step, from images and labels on the host to new weights; the crop is square."""
    height, width = settings.size
    if height != width:
        raise UserError(f"Training crops are square; got --size {height}x{width}.")
    measured = load_bench_model(settings)
    steps = TrainingSteps(measured, settings, folder)
    tower = Subject(bare_tower(measured.model, settings.size, steps.batch), steps.batch)
    subjects = _variants("training step", steps.step, steps.network, settings, steps.batch)
    facts = {"classes": len(steps.text), "parameters": count_parameters(steps.network)}
    return Workload(measured.model.device, {TOWER: tower, **subjects}, facts)


def _prepare(settings: BenchSettings, folder: Path) -> Workload:
    """A folder of images and index masks to a prepared dataset, beside a plain copy of the files."""
    source, classes = folder / "source", [f"class {index}" for index in range(settings.class_count)]
    draw_folder(source, settings.images, settings.size, len(classes))

    def copy() -> None:
        shutil.rmtree(folder / "copy", ignore_errors=True)
        shutil.copytree(source, folder / "copy")

    prepare = partial(prepare_source_folder, folder / "prepared", source=source, classes=classes, overwrite=True)
    subjects = {COPY: Subject(copy, settings.images)}
    for workers in sorted({1, settings.workers}):
        name = f"preparation, {workers} process{'es' if workers > 1 else ''}"
        subjects[name] = Subject(partial(prepare, workers=workers), settings.images)
    return Workload(torch.device("cpu"), subjects)


WORKLOADS: Mapping[Kind, Callable[[BenchSettings, Path], Workload]] = {
    "predict": _predict,
    "eval": _eval,
    "train": _train,
    "prepare": _prepare,
}


def _variants(
    name: str, run: Callable[[nn.Module], object], network: nn.Module, settings: BenchSettings, images: int = 1
) -> dict[str, Subject]:
    """A subject as it is, and compiled where the settings ask for it."""
    subjects = {name: Subject(partial(run, network), images)}
    if settings.compiled:
        subjects[name + COMPILED] = Subject(compiling("leave --compile out")(partial(run, compiled(network))), images)
    return subjects


def _inference(settings: BenchSettings, measured: BenchModel, subjects: dict[str, Subject]) -> Workload:
    """Put the bare tower first, on one window."""
    model, network, batch = measured.model, measured.network, settings.batch or 1
    model.release_text_tower()
    height, width = test_size(*settings.size, model.recipe.data.short_side)
    windows = window_boxes(height, width, model.recipe.inference.crop, model.recipe.inference.stride)
    (y1, x1, y2, x2), patch = windows[0], network.patch_size
    window = (-(-(y2 - y1) // patch) * patch, -(-(x2 - x1) // patch) * patch)
    facts = {"classes": len(measured.text), "windows": len(windows), "parameters": count_parameters(network)}
    # PyTorch's counter of operations fails on parameters that require a gradient in inference mode.
    network.requires_grad_(False)
    tower = Subject(bare_tower(model, window, batch), batch)
    return Workload(model.device, {TOWER: tower, **subjects}, facts)


def _with(model: CascadeCLIP, network: nn.Module) -> CascadeCLIP:
    """The same model with another network, a compiled one."""
    changed = copy(model)
    changed.network = network  # type: ignore[assignment]
    return changed


def _plain_labels(measured: BenchModel, image: NDArray[np.uint8]) -> Tensor:
    """Labels (H, W) by the plain path: the scores of every class at every pixel, one window after the other."""
    model, device = measured.model, measured.model.device
    inference = model.recipe.inference.model_copy(update={"window_batch": 1})
    pixels = torch.from_numpy(prepare_image(image, model.recipe.data, inference.training_free)).to(device)
    scores = slide_scores(
        measured.network, pixels, measured.text, measured.vocabulary.seen.to(device), inference, dtype=model.dtype
    )
    return labels_from_scores(scores, (image.shape[0], image.shape[1])).labels
