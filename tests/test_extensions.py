"""Hosts and aggregations of another package work everywhere; wrong names and broken packages are told."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trained_runs import assert_same_weights, train_to_weights

from cascade_clip import CascadeCLIP
from cascade_clip.config.recipes import change_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.extensions import AGGREGATIONS, HOSTS
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip

MODULE = """
from dataclasses import replace
import torch
from torch import nn
from cascade_clip.model.hosts import ZEGCLIP

SHARP = replace(ZEGCLIP, region_loss="ssim", heads=lambda dim: 2)

class Mean(nn.Module):
    def forward(self, tokens):
        return torch.stack(list(tokens)).mean(dim=0)

def mean(config, blocks, dim, heads):
    return Mean()
"""
ENTRY_POINTS = """
[cascade_clip.hosts]
sharp = foreign_parts:SHARP
broken = foreign_parts.missing:HOST
[cascade_clip.aggregations]
foreign-mean = foreign_parts:mean
"""


@pytest.fixture
def foreign_package(tmp_path, monkeypatch) -> Path:
    """A package as pip leaves it: a module, and entry points in its dist-info folder."""
    folder = tmp_path / "site"
    info = folder / "foreign_parts-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "foreign_parts.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(folder)
    return folder


def test_a_foreign_host_and_a_parameter_free_aggregation_train_save_load_and_resume(
    foreign_package: Path, squares_recipe: Recipe, tmp_path, monkeypatch
):
    settings = ["model.host=sharp", "model.aggregation.kind=foreign-mean", "model.stages=[[1, 2], [3, 4]]"]
    recipe = change_recipe(squares_recipe, [*settings, "train.iterations=2"])
    assert (recipe.region_loss, squares_recipe.region_loss) == ("ssim", "dice")
    weights = train_to_weights(recipe, tmp_path / "run")
    assert not any("aggregations" in name for name in weights)
    model = CascadeCLIP.from_pretrained(tmp_path / "run" / "model")
    assert model.recipe.model == recipe.model
    assert model.network.head.decoders[0].layers[0].heads == recipe.model.decoder.heads
    assert_same_weights(weights, {name: tensor.cpu() for name, tensor in model.network.own_tensors().items()})
    assert_same_weights(weights, train_to_weights(recipe, tmp_path / "run", resume=True))
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(foreign_package)])
    with pytest.raises(UserError, match=r"model\.host: no host of that name is known.*install that package"):
        CascadeCLIP.from_pretrained(tmp_path / "run" / "model")


def test_names_are_known_without_loading_anything(foreign_package: Path, tiny_recipe: Recipe, tiny_clip: Clip):
    assert HOSTS.names()[-2:] == ("sharp", "broken")
    assert AGGREGATIONS.names()[-1] == "foreign-mean"
    code = "import sys, cascade_clip.config.recipes as r; r.load_recipe(None, ['model.host=spt-seg'])"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)
    config = change_recipe(tiny_recipe, ["model.aggregation.kind=foreign-mean", "model.stages=[[1, 2], [4]]"]).model
    merge = build_network(config, tiny_clip.visual).head.aggregations[0]
    one, two = torch.randn(2, 1, 3, 4)
    torch.testing.assert_close(merge([one, two]), (one + two) / 2)


def test_wrong_names_and_broken_packages(foreign_package: Path, tiny_recipe: Recipe, tiny_clip: Clip):
    with pytest.raises(UserError, match=r'model\.host: no host of that name is known\. Did you mean "sharp"\?'):
        change_recipe(tiny_recipe, ["model.host=sharpe"])
    with pytest.raises(UserError, match=r"Known: gaussian, sum, .* If another package adds it, install that package"):
        change_recipe(tiny_recipe, ["model.aggregation.kind=xyz"])
    broken = change_recipe(tiny_recipe, ["model.host=broken"]).model
    with pytest.raises(UserError, match=r'The host "broken" of an installed package cannot be loaded.*No module named'):
        build_network(broken, tiny_clip.visual)
