"""Runs of a few steps, and comparisons of what they leave."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from cascade_clip.config.schema import Recipe
from cascade_clip.training.start import start_training

Weights = dict[str, torch.Tensor]


def train_to_weights(recipe: Recipe, folder: Path, **options: object) -> Weights:
    """Train on the CPU; the weights of the last model. Options are those of `start_training`."""
    start_training(recipe, folder, device="cpu", **options).train(resume=bool(options.get("resume")))
    return load_file(folder / "model" / "model.safetensors")


def logged_losses(folder: Path) -> list[float]:
    """The loss of every line of a run's log."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def assert_same_weights(one: Weights, other: Weights) -> None:
    """Equal to the last bit."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def assert_close_weights(one: Weights, other: Weights) -> None:
    """Equal up to rounding and what AdamW makes of it."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        # The bias of keys has no gradient but rounding noise, which AdamW amplifies (golden README).
        if not name.endswith(".k.bias"):
            torch.testing.assert_close(other[name], tensor, rtol=0, atol=5e-6, msg=lambda m, n=name: f"{n}: {m}")
