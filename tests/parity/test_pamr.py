"""PAMR against the released code's tensors."""

import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from cascade_clip.model.pamr import neighbour_weights, refine_maps

TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def pamr(training_free: Path) -> dict[str, Tensor]:
    with safe_open(training_free / "pamr.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it has keys, but no iterator)


def test_every_refined_map(pamr: dict[str, Tensor]):
    refined = [name for name in pamr if name.startswith("out")]
    assert refined
    for name in refined:
        source, steps, distances = re.fullmatch(r"out(\w*)\.steps(\d+)\.d([\d_]+)", name).groups()
        maps = pamr["mask_quarter" if "quarter" in source else "mask"]
        ours = refine_maps(pamr["image"], maps, steps=int(steps), dilations=_numbers(distances))
        every = int(source.rpartition("every")[2]) if "every" in source else 1
        torch.testing.assert_close(ours[..., ::every, ::every], pamr[name], rtol=0, atol=TOLERANCE, msg=name)


def test_every_weight(pamr: dict[str, Tensor]):
    weights = [name for name in pamr if name.startswith("affinity")]
    assert weights
    for name in weights:
        distances, first, last = re.fullmatch(r"affinity\.d([\d_]+)\.rows(\d+)_(\d+)", name).groups()
        ours = neighbour_weights(pamr["image"][0], _numbers(distances)).permute(2, 0, 1)
        torch.testing.assert_close(ours[:, int(first) : int(last)], pamr[name], rtol=0, atol=TOLERANCE)


def _numbers(joined: str) -> tuple[int, ...]:
    return tuple(map(int, joined.split("_")))
