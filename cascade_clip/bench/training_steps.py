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

from cascade_clip.bench.measured_model import BenchModel, BenchSettings, count_parameters, drawn_dataset
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
        parts: Parts of `whole_step` as `cascade_clip.bench.record.time_parts` takes them.
    """

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
        text = measured.text[list(labeller.fed)]
        dataset = drawn_dataset(folder, _IMAGES, _IMAGE_SIZE, measured.split)
        self._samples = TrainSamples(dataset, TrainTransform(recipe.data), recipe.seed)
        self._micro_batch = recipe.train.micro_batch
        self._loaded = self._load()
        self._train_step = TrainStep(
            accelerator, self.network, prepared_optimizer, text, labeller, recipe.loss, recipe.region_loss
        )
        self.parts: dict[str, tuple[object, str, str]] = {
            "data": (self, "_load", _REST),
            "tower": (self.network.encoder, "forward", "head"),
            "head": (self.network.head, "forward", "loss"),
            "backward": (accelerator, "backward", _REST),
            "optimizer": (optimizer, "step", _REST),
        }

    def step(self, network: nn.Module) -> None:
        """Make one step on the loaded batch; `network` is the network itself or what `torch.compile` made of it."""
        self._step(network, self._loaded)

    def whole_step(self) -> None:
        """Load a batch and make a step."""
        self._step(self.network, self._load())

    def facts(self) -> dict[str, Any]:
        """Classes, parameters, and how many images one loader process reads and augments per second."""
        begin = time.perf_counter()
        for position in range(_IMAGES):
            self._samples[position]
        return {
            "classes": len(self._train_step.text),
            "parameters": count_parameters(self.network),
            "images_per_second_of_a_loader": _IMAGES / (time.perf_counter() - begin),
        }

    def _step(self, network: nn.Module, batch: Sequence[TrainSample]) -> None:
        network.train()
        replace(self._train_step, network=network)(batch)

    def _load(self) -> list[TrainSample]:
        """The micro-batches of one step."""
        return list(train_loader(self._samples, start_step=0, steps=1, batch=self.batch, micro_batch=self._micro_batch))


def _trainable(measured: BenchModel, crop: int) -> CascadeNetwork:
    """The network, once it is known that the step asked for can be made."""
    recipe, network = measured.model.recipe, measured.network
    if not isinstance(network, CascadeNetwork):
        raise UserError(f'"{recipe.name}" is training-free: there is no training step to measure.')
    if crop % network.patch_size:
        raise UserError(f"The crop of {crop} pixels is no multiple of this CLIP's patches of {network.patch_size}.")
    return network
