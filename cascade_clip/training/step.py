"""One optimiser step: AdamW and its learning rate, and one effective batch over all processes and micro-batches."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from cascade_clip.config.schema import LossConfig, TrainConfig
from cascade_clip.data.samples import TrainSample
from cascade_clip.losses.criterion import RegionLoss, segmentation_loss
from cascade_clip.losses.targets import present_classes
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.runtime import to_device
from cascade_clip.training.labelling import SeenLabels, StudentPasses

_FUSED_DEVICES = {"cpu", "cuda"}
"""Where PyTorch has AdamW in one kernel; the update is the same up to rounding."""


def trainable_parameters(network: CascadeNetwork) -> dict[str, nn.Parameter]:
    """Parameters that receive a gradient, by name (SPEC section 8)."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def build_optimizer(network: CascadeNetwork, config: TrainConfig) -> AdamW:
    """Make AdamW (SPEC section 9): base rate × 10 for prompts and head alike, decay on every tensor.

    Each group keeps its own starting rate under `base_lr`, from which `set_learning_rate` computes a step's rate.
    """
    trainable = trainable_parameters(network)
    encoder = {name: p for name, p in trainable.items() if name.startswith("encoder.")}
    head = {name: p for name, p in trainable.items() if not name.startswith("encoder.")}
    groups = [
        *_groups(encoder.values(), config.lr * config.encoder_lr_factor, config),
        *_groups(head.values(), config.lr * config.head_lr_factor, config),
    ]
    fused = all(p.device.type in _FUSED_DEVICES for p in trainable.values())
    return AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=fused)


def set_learning_rate(optimizer: Optimizer, step: int, config: TrainConfig) -> float:
    """Set every group's rate for a step (0-based); returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(
            step,
            config.iterations,
            base=group["base_lr"],
            min_lr=config.min_lr,
            power=config.power,
            warmup=config.warmup,
            warmup_ratio=config.warmup_ratio,
        )
    return float(optimizer.param_groups[0]["lr"])


def learning_rate(
    step: int,
    steps: int,
    *,
    base: float,
    min_lr: float = 1e-6,
    power: float = 0.9,
    warmup: int = 1500,
    warmup_ratio: float = 1e-6,
) -> float:
    """Rate of one optimiser step: polynomial decay, multiplied by a linear warm-up (SPEC section 10).

    `step` is 0-based, `steps` the length T of the run; `base` is the rate at the start of the decay, `min_lr` that at
    which it would end. The decay runs underneath the `warmup` steps; `warmup_ratio` is the factor at step 0.
    """
    rate: float = (base - min_lr) * (1 - step / steps) ** power + min_lr
    if step < warmup:
        rate *= 1 - (1 - step / warmup) * (1 - warmup_ratio)
    return rate


def _groups(parameters: Iterable[nn.Parameter], lr: float, config: TrainConfig) -> list[dict[str, Any]]:
    decayed: list[nn.Parameter] = []
    exempt: list[nn.Parameter] = []
    for parameter in parameters:
        (decayed if config.decay_norms or parameter.ndim > 1 else exempt).append(parameter)
    settings = {"lr": lr, "base_lr": lr}
    return [
        {"params": chosen, "weight_decay": decay, **settings}
        for chosen, decay in ((decayed, config.weight_decay), (exempt, 0.0))
        if chosen
    ]


@dataclass(frozen=True)
class TrainStep:
    """What a step needs beside its images; calling it makes the step.

    `network` is as Accelerate wrapped it, in training mode, as is its `optimizer`; `text` (K, C) float32 are the text
    embeddings of the classes that are fed, on the accelerator's device.
    """

    accelerator: Accelerator
    network: nn.Module
    optimizer: Optimizer
    text: Tensor
    labeller: SeenLabels
    loss: LossConfig
    region_loss: RegionLoss

    def __call__(self, batch: Sequence[TrainSample], *, asked_to_stop: bool = False) -> Tensor:
        """Change the weights by one step.

        The gradients of the micro-batches of this process are accumulated. Gives (3,) float32 on the device, as means
        over all processes: weighted focal term, dice or SSIM, and the share of processes that were asked to stop.
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
        return self.accelerator.reduce(torch.full((), float(masks), device=self.accelerator.device), "mean")
