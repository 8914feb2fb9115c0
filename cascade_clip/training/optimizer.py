"""AdamW with the released groups (everything trainable in the encoder, everything in the head) and its rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from cascade_clip.config.schema import TrainConfig
from cascade_clip.model.network import CascadeNetwork

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

    Args:
        step: 0-based step.
        steps: T, steps of the whole run.
        base: Rate of the group at the start of the decay.
        min_lr: Rate at which the decay would end.
        power: Power of the decay.
        warmup: Steps of warm-up; the decay runs underneath.
        warmup_ratio: Factor at step 0.
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
