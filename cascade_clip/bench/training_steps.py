"""The optimiser step that training makes, on a batch that is loaded already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from cascade_clip.bench.measured_model import BenchModel, drawn_dataset
from cascade_clip.bench.settings import BenchSettings
from cascade_clip.config.recipes import change_recipe
from cascade_clip.data.samples import TrainSamples, train_loader
from cascade_clip.data.transforms import TrainTransform
from cascade_clip.errors import UserError
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.runtime import process_state
from cascade_clip.training.labelling import SeenLabels
from cascade_clip.training.step import TrainStep, build_optimizer, set_learning_rate

_IMAGES, _IMAGE_SIZE = 8, (480, 640)
"""The images that crops are cut from: as large as COCO's."""
_ACCELERATE_PRECISION = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}


class TrainingSteps:
    """Steps of one network on drawn images.

    Attributes:
        network: The network that trains.
        batch: Images per step.
        text: Embeddings (K, C) of the classes that are trained on.
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
