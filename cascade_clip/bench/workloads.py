"""The four kinds of measurement: what runs, and beside which reference."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
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
from cascade_clip.bench.plain import plain_confusion, plain_labels
from cascade_clip.bench.settings import BenchSettings, Kind
from cascade_clip.bench.timing import PartClock
from cascade_clip.bench.training_steps import TrainingSteps
from cascade_clip.compilation import compiled, compiling
from cascade_clip.data.resize import test_size
from cascade_clip.errors import UserError, counted
from cascade_clip.evaluation.evaluate import evaluate
from cascade_clip.inference.sliding_window import window_boxes
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.preparation.prepare_folder import prepare_source_folder
from cascade_clip.runtime import check_memory

TOWER, COPY = "bare tower", "plain copy"
PLAIN, COMPILED = ", plain", ", compiled"
"""How the names of a subject's variants end."""
_COMPARED_IMAGES = 8
"""Images whose labels are compared with those of full precision."""


class Subject(NamedTuple):
    """Something that is timed: a call, and how many images one call takes."""

    call: Callable[[], object]
    images: int = 1


@dataclass
class Workload:
    """What takes turns.

    Attributes:
        device: Where it runs.
        subjects: Subjects by name, in the order of their turns; the first is the reference of all ratios.
        timed_pass: One pass of the main subject that moves the clock through its parts. None: it has no parts.
        images_per_pass: Images of such a pass whose figures are told per image; a training step is told as a whole.
        facts: What else is worth telling: windows, parameters, agreement of labels.
    """

    device: torch.device
    subjects: dict[str, Subject]
    timed_pass: Callable[[PartClock], object] | None = None
    images_per_pass: int = 1
    facts: Callable[[], dict[str, Any]] = dict

    @property
    def reference(self) -> str:
        """Name of the subject that the others are compared with."""
        return next(iter(self.subjects))


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
    return _WORKLOADS[settings.kind](settings, folder)


def _predict(settings: BenchSettings, folder: Path) -> Workload:
    """One image to its label map, from uint8 pixels to labels at its own size."""
    measured = load_bench_model(settings)
    image, _ = drawn_image(settings.seed, settings.size, len(measured.text))

    def labels(network: nn.Module) -> Tensor:
        return measured.labels(image, network)

    subjects = _variants("label map", labels, measured.network, settings, lambda: plain_labels(measured, image))
    return _inference(settings, measured, subjects, parts=("preparation", "upsampling, labels"))


def _eval(settings: BenchSettings, folder: Path) -> Workload:
    """Several images of a prepared dataset to a confusion matrix."""
    measured = load_bench_model(settings)
    images = settings.images
    dataset = drawn_dataset(folder, images, settings.size, measured.split, settings.seed)

    def confusion(network: nn.Module) -> Tensor:
        model = copy(measured.model)
        model.network = network  # type: ignore[assignment]
        found = evaluate(model, measured.split, dataset, part="train", text_embeddings=measured.text)
        return torch.from_numpy(found.confusion)

    plain = partial(plain_confusion, measured, dataset)
    subjects = _variants("evaluation", confusion, measured.network, settings, plain, images=images)
    return _inference(settings, measured, subjects, parts=("reading, preparation", "upsampling, labels, counting"))


def _train(settings: BenchSettings, folder: Path) -> Workload:
    """One optimiser step, from images and labels on the host to new weights; the crop is square."""
    height, width = settings.size
    if height != width:
        raise UserError(f"Training crops are square; got --size {height}x{width}.")
    measured = load_bench_model(settings)
    steps = TrainingSteps(measured, settings, folder)
    tower = Subject(bare_tower(measured.model, settings.size, steps.batch), steps.batch)
    subjects = _variants("training step", steps.step, steps.network, settings, steps.plain_step, images=steps.batch)
    return Workload(measured.model.device, {TOWER: tower, **subjects}, steps.timed_pass, facts=steps.facts)


def _prepare(settings: BenchSettings, folder: Path) -> Workload:
    """A folder of images and index masks to a prepared dataset, beside a plain copy of the files."""
    source, classes = folder / "source", [f"class {index}" for index in range(settings.class_count)]
    draw_folder(source, settings.images, settings.size, len(classes), settings.seed)

    def copy() -> None:
        shutil.rmtree(folder / "copy", ignore_errors=True)
        shutil.copytree(source, folder / "copy")

    prepare = partial(prepare_source_folder, folder / "prepared", source=source, classes=classes, overwrite=True)
    subjects = {COPY: Subject(copy, settings.images)}
    for workers in sorted({1, settings.workers}):
        name = f"preparation, {workers} process{'es' if workers > 1 else ''}"
        subjects[name] = Subject(partial(prepare, workers=workers), settings.images)
    return Workload(torch.device("cpu"), subjects)


_WORKLOADS: Mapping[Kind, Callable[[BenchSettings, Path], Workload]] = {
    "predict": _predict,
    "eval": _eval,
    "train": _train,
    "prepare": _prepare,
}


def _variants(
    name: str,
    run: Callable[[nn.Module], object],
    network: nn.Module,
    settings: BenchSettings,
    plain: Callable[[], object],
    images: int = 1,
) -> dict[str, Subject]:
    """A subject as it is, and compiled and plain where the settings ask for them."""
    subjects = {name: Subject(partial(run, network), images)}
    if settings.compiled:
        subjects[name + COMPILED] = Subject(compiling("leave --compile out")(partial(run, compiled(network))), images)
    if settings.plain:
        subjects[name + PLAIN] = Subject(plain, images)
    return subjects


def _inference(
    settings: BenchSettings, measured: BenchModel, subjects: dict[str, Subject], *, parts: tuple[str, str]
) -> Workload:
    """Put the bare tower first; `parts` are what comes before and after the network."""
    model, network, batch = measured.model, measured.network, settings.batch or 1
    model.release_text_tower()
    height, width = test_size(*settings.size, model.recipe.data.short_side)
    windows = window_boxes(height, width, model.recipe.inference.crop, model.recipe.inference.stride)
    (y1, x1, y2, x2), patch = windows[0], network.patch_size
    window = (-(-(y2 - y1) // patch) * patch, -(-(x2 - x1) // patch) * patch)
    main = next(iter(subjects.values()))
    facts_of_model = {"classes": len(measured.text), "windows": len(windows), "parameters": count_parameters(network)}
    # PyTorch's counter of operations fails on parameters that require a gradient in inference mode.
    network.requires_grad_(False)
    calls: dict[str, tuple[object, str, str]] = {"tower": (network, "forward", parts[1])}
    if isinstance(network, CascadeNetwork):
        calls = {"tower": (network.encoder, "forward", "head"), "head": (network.head, "forward", parts[1])}

    def timed_pass(clock: PartClock) -> None:
        with clock.entered_by(calls):
            clock.enter(parts[0])
            main.call()
            clock.enter(None)

    def facts() -> dict[str, Any]:
        if model.dtype == torch.float32:
            return facts_of_model
        return {**facts_of_model, "labels_equal_to_fp32": _share_equal_to_fp32(measured, settings)}

    tower = Subject(bare_tower(model, window, batch), batch)
    return Workload(model.device, {TOWER: tower, **subjects}, timed_pass, main.images, facts)


def _share_equal_to_fp32(measured: BenchModel, settings: BenchSettings) -> float:
    """Share of the pixels of several images that have the same label in full precision."""
    shares = []
    for number in range(_COMPARED_IMAGES):
        image, _ = drawn_image(settings.seed + number, settings.size, len(measured.text))
        fast, exact = measured.labels(image), measured.labels(image, dtype=torch.float32)
        shares.append(float((fast == exact).float().mean()))
    return fmean(shares)
