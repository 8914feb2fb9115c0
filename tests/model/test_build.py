"""From settings to the network: what is said of stages that leave out the last block."""

import pytest

from cascade_clip.config.recipes import change_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip


def test_stages_without_the_last_block_are_named(tiny_recipe: Recipe, tiny_clip: Clip, caplog):
    build_network(tiny_recipe.model, tiny_clip.visual)
    assert not caplog.messages
    build_network(change_recipe(tiny_recipe, ["model.stages=[[1], [2]]"]).model, tiny_clip.visual)
    assert caplog.messages == [
        "This CLIP has 4 blocks; the stages [[1], [2]] leave out the last. Scaled to its depth they are"
        " model.stages=[[2, 3], [4]]."
    ]
    with pytest.raises(UserError, match=r"has 4 blocks, counted from 1; the stages name \[5\]"):
        build_network(change_recipe(tiny_recipe, ["model.stages=[[4, 5]]"]).model, tiny_clip.visual)
