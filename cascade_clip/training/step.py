"""One optimiser step over Accelerate: one effective batch, whatever the number of processes and micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from cascade_clip.config.schema import LossConfig
from cascade_clip.data.samples import TrainSample
from cascade_clip.losses.criterion import RegionLoss, segmentation_loss
from cascade_clip.losses.targets import present_classes
from cascade_clip.runtime import to_device
from cascade_clip.training.labelling import Labeller, StudentPasses


@dataclass(frozen=True)
class TrainStep:
    """What a step needs beside its images; calling it makes the step.

    Attributes:
        accelerator: Devices, processes, precision.
        network: The network as Accelerate wrapped it, in training mode.
        optimizer: Its optimiser, likewise.
        text: (K, C) float32 text embeddings of the classes that are fed, on the accelerator's device.
        labeller: Decides what is learnt.
        loss: Weights of the loss, and what ignored pixels mean.
        region_loss: What stands beside the focal loss.
    """

    accelerator: Accelerator
    network: nn.Module
    optimizer: Optimizer
    text: Tensor
    labeller: Labeller
    loss: LossConfig
    region_loss: RegionLoss

    def __call__(self, batch: Sequence[TrainSample], *, asked_to_stop: bool = False) -> Tensor:
        """Change the weights by one step.

        Args:
            batch: The micro-batches of this process; their gradients are accumulated.
            asked_to_stop: Whether this process was; all of them learn it.

        Returns:
            (3,) float32 on the device: weighted focal term, dice or SSIM, and the share of processes that were asked to
            stop, as means over all processes.
        """
        images = [to_device(micro["image"], self.accelerator.device) for micro in batch]
        passes = StudentPasses(self.network, images, self.text)
        labels = self.labeller.label(batch, passes)
        asked = torch.full((1,), float(asked_to_stop), device=self.accelerator.device)
        terms: Tensor = self.accelerator.reduce(torch.cat([self._backward(passes, labels), asked]), "mean")
        self.optimizer.step()
        self.optimizer.zero_grad()
        return terms

    def _backward(self, passes: StudentPasses, labels: Sequence[Tensor]) -> Tensor:
        """Accumulate the gradient of all micro-batches, labels (B, H, W) of each; the terms (2,) of this process."""
        present = [present_classes(micro, len(self.text)).cpu() for micro in labels]
        num_masks = self._mean_over_processes(sum(int(micro.sum()) for micro in present))
        device = self.accelerator.device
        terms, images = torch.zeros(2, device=device), sum(len(micro) for micro in labels)
        for number, micro_labels in enumerate(labels):
            last = number == len(labels) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                parts = segmentation_loss(
                    passes.logits(number),
                    to_device(micro_labels, device),
                    focal_weight=self.loss.focal,
                    dice_weight=self.loss.dice,
                    region=self.region_loss,
                    ignored=self.loss.ignored,
                    num_masks=num_masks,
                    share=len(micro_labels) / images,
                    present=present[number],
                )
                self.accelerator.backward(parts.total)
            terms += torch.stack([parts.focal, parts.dice + parts.ssim])
        return terms

    def _mean_over_processes(self, masks: int) -> float | Tensor:
        """The number of masks as a mean over processes, so that N is the whole batch's (SPEC section 7)."""
        if self.accelerator.num_processes == 1:
            return float(masks)
        mean: Tensor = self.accelerator.reduce(torch.full((), float(masks), device=self.accelerator.device), "mean")
        return mean
