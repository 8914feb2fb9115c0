"""Runs of a few steps, and comparisons of what they leave."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from cascade_clip.config.schema import Recipe
from cascade_clip.training.start import start_training

Weights = dict[str, torch.Tensor]


def changed(recipe: Recipe, **train: object) -> Recipe:
    """The recipe with other keys in its section `train`."""
    return recipe.changed(train=train)


def without_dropout(recipe: Recipe) -> Recipe:
    """The recipe without anything random in the forward pass."""
    return recipe.changed(model={"prompts": {"dropout": 0.0}, "decoder": {"dropout": 0.0}})


def spt_seg(recipe: Recipe) -> Recipe:
    """The tiny recipe with host SPT-SEG."""
    parts = {"host": "spt-seg", "decoder": {"heads": 8, "gate": "open"}, "spectral": {"grid": 4}}
    return recipe.changed(model=parts)


def train_to_weights(recipe: Recipe, folder: Path, **options: object) -> Weights:
    """Train to the end on the CPU; the weights of the last model. Options are those of `start_training`."""
    start_training(recipe, folder, device="cpu", **options).train(resume=bool(options.get("resume")))
    return load_file(folder / "model" / "model.safetensors")


def interrupt(recipe: Recipe, folder: Path, steps: int) -> None:
    """Train for so many steps and leave what a killed run leaves."""
    start_training(recipe, folder, device="cpu").train(steps=steps)
    assert not (folder / "model").exists()


def log_lines(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log that hold a loss."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def logged_losses(folder: Path) -> list[float]:
    """The loss of every such line."""
    return [line["loss"] for line in log_lines(folder)]


def same(one: Weights, other: Weights) -> bool:
    """Equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def assert_same_weights(one: Weights, other: Weights) -> None:
    """Equal to the last bit."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def assert_close_weights(one: Weights, other: Weights, *, within: float = 5e-6) -> None:
    """Equal up to rounding and what AdamW makes of it."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        # The bias of keys has no gradient but rounding noise, which AdamW amplifies (golden README).
        if not name.endswith(".k.bias"):
            torch.testing.assert_close(other[name], tensor, rtol=0, atol=within, msg=lambda m, n=name: f"{n}: {m}")
