"""Every row of every table, on every dataset, builds a network that takes a training step."""

from __future__ import annotations

import math

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import Recipe
from cascade_clip.losses.criterion import segmentation_loss
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.open_clip_model import build_model
from cascade_clip.reproduce.table_file import read_table, table_names, table_rows
from cascade_clip.training.optimizer import build_optimizer, set_learning_rate, trainable_parameters

SPLITS = ("coco-seen", "voc-seen", "context-released-seen", "shapes-seen")


@pytest.fixture(scope="module")
def twelve_blocks() -> VisionTransformer:
    """An image tower as deep as the paper's and as small as can be."""
    vision = {"image_size": 64, "layers": 12, "width": 16, "head_width": 8, "patch_size": 16}
    visual: VisionTransformer = build_model({"embed_dim": 32, "vision_cfg": vision, "text_cfg": None}).visual
    return visual


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", table_names())
def test_every_row_takes_a_step(name: str, split: str, twelve_blocks: VisionTransformer) -> None:
    rows = [row for row in table_rows(read_table(name), split) if row.recipe is not None]
    assert rows
    for row in rows:
        _take_a_step(row.recipe, twelve_blocks)


def _take_a_step(recipe: Recipe, visual: VisionTransformer) -> None:
    torch.manual_seed(0)
    network = build_network(recipe.model, visual).train()
    assert len(network.head.decoders) == len(recipe.model.stages) * recipe.model.decoders_per_stage, recipe.name
    before = {key: tensor.clone() for key, tensor in network.own_tensors().items()}
    optimizer = build_optimizer(network, recipe.train)
    set_learning_rate(optimizer, recipe.train.warmup, recipe.train)
    text = F.normalize(torch.randn(3, 32), dim=-1)
    labels = torch.randint(0, 3, (2, 64, 64))
    logits = network(torch.randn(2, 3, 64, 64), text)
    loss = segmentation_loss(logits, labels, region=recipe.region_loss, ignored=recipe.loss.ignored).total
    loss.backward()
    optimizer.step()
    assert math.isfinite(loss.item()), recipe.name
    trained = trainable_parameters(network)
    without = [
        key for key, parameter in trained.items() if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert not without, recipe.name
    moved = {key for key, tensor in network.own_tensors().items() if not torch.equal(tensor, before[key])}
    if recipe.model.host == "spt-seg":
        # Its gates may start closed at every location, and what has a gradient of zero and starts at zero stays there.
        trained = {key: parameter for key, parameter in trained.items() if parameter.grad.any() or before[key].any()}
    assert moved == set(trained), recipe.name
