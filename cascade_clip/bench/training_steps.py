"""The optimiser step that training makes, on a batch that is loaded already."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from cascade_clip.bench.measured_model import BenchModel, count_parameters, drawn_dataset
from cascade_clip.bench.plain import plain_step
from cascade_clip.bench.settings import BenchSettings
from cascade_clip.bench.timing import PartClock
from cascade_clip.config.recipes import change_recipe
from cascade_clip.data.samples import TrainSample, TrainSamples, train_loader
from cascade_clip.data.transforms import TrainTransform
from cascade_clip.errors import UserError
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.runtime import process_state
from cascade_clip.training.labelling import SeenLabels
from cascade_clip.training.step import TrainStep, build_optimizer, set_learning_rate

_IMAGES, _IMAGE_SIZE = 8, (480, 640)
"""The images that crops are cut from: as large as COCO's."""
_REST = "labels, checks"
"""The part of a step that is none of the others."""
_ACCELERATE_PRECISION = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}


class TrainingSteps:
    """Steps of one network on drawn images.

    Attributes:
        network: The network that trains.
        batch: Images per step.
    """

    def __init__(self, measured: BenchModel, settings: BenchSettings, folder: Path) -> None:
        """Draw images into an empty folder, build the optimiser and load one batch.

        Raises UserError for a training-free model, a crop that does not fit the patches, or a plain path that does not
        exist.
        """
        (crop, _), self.batch = settings.size, settings.batch or 1
        self.network = _trainable(measured, crop, plain=settings.plain)
        recipe = measured.model.recipe
        recipe = change_recipe(recipe, [f"data.crop={crop}", f"train.batch={self.batch}", "train.workers=0"])
        measured.model.recipe = self._recipe = recipe
        process_state(measured.model.device)
        device, precision = measured.model.device, _ACCELERATE_PRECISION[measured.model.dtype]
        self._accelerator = Accelerator(mixed_precision=precision, cpu=device.type == "cpu")
        self._optimizer = build_optimizer(self.network, recipe.train)
        _, prepared_optimizer = self._accelerator.prepare(self.network, self._optimizer)
        set_learning_rate(self._optimizer, 0, recipe.train)
        self._device, self._dtype = device, measured.model.dtype
        labeller = SeenLabels(measured.split)
        self._text = measured.text[list(labeller.fed)]
        dataset = drawn_dataset(folder, _IMAGES, _IMAGE_SIZE, measured.split, settings.seed)
        self._samples = TrainSamples(dataset, TrainTransform(recipe.data), recipe.seed)
        self._loaded = self._load()
        self._train_step = TrainStep(
            self._accelerator, self.network, prepared_optimizer, self._text, labeller, recipe.loss, recipe.region_loss
        )

    def step(self, network: nn.Module) -> None:
        """Make one step on the loaded batch; `network` is the network itself or what `torch.compile` made of it."""
        self._step(network, self._loaded)

    def plain_step(self) -> None:
        """Make one step on the loaded batch by the plain path."""
        images = torch.cat([micro["image"] for micro in self._loaded]).to(self._device)
        labels = torch.cat([micro["label"] for micro in self._loaded]).to(self._device).long()
        self.network.train()
        plain_step(self.network, self._optimizer, images, labels, self._text, self._recipe.loss, self._dtype)

    def timed_pass(self, clock: PartClock) -> None:
        """Load a batch and make a step, with the clock in the part that is under way."""
        clock.enter("data")
        batch = self._load()
        clock.enter(_REST)
        calls = {
            "tower": (self.network.encoder, "forward", "head"),
            "head": (self.network.head, "forward", "loss"),
            "backward": (self._accelerator, "backward", _REST),
            "optimizer": (self._optimizer, "step", _REST),
        }
        with clock.entered_by(calls):
            self._step(self.network, batch)
        clock.enter(None)

    def facts(self) -> dict[str, Any]:
        """Classes, parameters, and how many images one loader process reads and augments per second."""
        begin = time.perf_counter()
        for position in range(_IMAGES):
            self._samples[position]
        seconds = time.perf_counter() - begin
        return {
            "classes": len(self._text),
            "parameters": count_parameters(self.network),
            "images_per_second_of_a_loader": _IMAGES / seconds,
        }

    def _step(self, network: nn.Module, batch: Sequence[TrainSample]) -> None:
        network.train()
        replace(self._train_step, network=network)(batch)

    def _load(self) -> list[TrainSample]:
        """The micro-batches of one step."""
        micro_batch = self._recipe.train.micro_batch
        return list(train_loader(self._samples, start_step=0, steps=1, batch=self.batch, micro_batch=micro_batch))


def _trainable(measured: BenchModel, crop: int, *, plain: bool) -> CascadeNetwork:
    """The network, once it is known that the step asked for can be made."""
    recipe, network = measured.model.recipe, measured.network
    if not isinstance(network, CascadeNetwork):
        raise UserError(f'"{recipe.name}" is training-free: there is no training step to measure.')
    if crop % network.patch_size:
        raise UserError(f"The crop of {crop} pixels is no multiple of this CLIP's patches of {network.patch_size}.")
    if plain and recipe.region_loss != "dice":
        raise UserError(f'"{recipe.name}" learns with {recipe.region_loss}, which has no plain path: leave --plain.')
    return network
