"""Learning rate: polynomial decay with a linear warm-up on top of it."""

from __future__ import annotations


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
    """Rate of one optimiser step (SPEC section 10).

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
