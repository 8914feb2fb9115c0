"""Every network that a row of a shipped table asks for is built and takes a training step."""

import math

import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import Recipe
from cascade_clip.losses.criterion import segmentation_loss
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.open_clip_model import build_model
from cascade_clip.reproduce.plan import table_rows
from cascade_clip.reproduce.table_file import read_table, table_names
from cascade_clip.training.step import build_optimizer, set_learning_rate, trainable_parameters


def _different_networks() -> dict[str, Recipe]:
    """A recipe for each network and loss; the split changes neither, and most rows share theirs with others."""
    recipes = [row.recipe for name in table_names() for row in table_rows(read_table(name), "shapes-seen")]
    return {f"{recipe.model!r} {recipe.loss!r}": recipe for recipe in recipes if recipe is not None}


@pytest.fixture(scope="module")
def twelve_blocks() -> VisionTransformer:
    """An image tower as deep as the paper's and as small as can be."""
    vision = {"image_size": 64, "layers": 12, "width": 16, "head_width": 8, "patch_size": 16}
    visual: VisionTransformer = build_model({"embed_dim": 32, "vision_cfg": vision, "text_cfg": None}).visual
    return visual


@pytest.mark.parametrize("recipe", [pytest.param(each, id=each.name) for each in _different_networks().values()])
def test_every_network_takes_a_step(recipe: Recipe, twelve_blocks: VisionTransformer):
    torch.manual_seed(0)
    network = build_network(recipe.model, twelve_blocks).train()
    assert len(network.head.decoders) == len(recipe.model.stages) * recipe.model.decoders_per_stage
    before = {key: tensor.clone() for key, tensor in network.own_tensors().items()}
    optimizer = build_optimizer(network, recipe.train)
    set_learning_rate(optimizer, recipe.train.warmup, recipe.train)
    text = F.normalize(torch.randn(3, 32), dim=-1)
    labels = torch.randint(0, 3, (2, 64, 64))
    logits = network(torch.randn(2, 3, 64, 64), text)
    loss = segmentation_loss(logits, labels, region=recipe.region_loss, ignored=recipe.loss.ignored).total
    loss.backward()
    optimizer.step()
    assert math.isfinite(loss.item())
    trained = trainable_parameters(network)
    without = [
        key for key, parameter in trained.items() if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert not without
    moved = {key for key, tensor in network.own_tensors().items() if not torch.equal(tensor, before[key])}
    if recipe.model.host == "spt-seg":
        # Its gates may start closed at every location, and what has a gradient of zero and starts at zero stays there.
        trained = {key: parameter for key, parameter in trained.items() if parameter.grad.any() or before[key].any()}
    assert moved == set(trained)
