"""Stages that are left to the CLIP: scaled to its depth, trained, and recorded in everything that is kept."""

import json
from pathlib import Path

import pytest

from cascade_clip.config.recipes import load_recipe
from cascade_clip.config.schema import ModelConfig, Recipe
from cascade_clip.errors import UserError
from cascade_clip.model.clip.load import blocks_of
from cascade_clip.model.stages import PAPER_STAGES, scaled_stages, stages_of
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training.run_folder import RunFolder
from cascade_clip.training.run_training import train


@pytest.mark.parametrize(
    ("blocks", "first", "others"),
    [(12, 6, [9, 12]), (24, 12, [18, 24]), (32, 16, [24, 32]), (4, 2, [3, 4]), (3, 2, [3]), (2, 1, [2]), (1, 1, [])],
)
def test_the_papers_stages_are_scaled(blocks: int, first: int, others: list[int]):
    """They begin in proportion and leave out no block up to the last."""
    stages = stages_of(ModelConfig(), blocks)
    assert [stage[0] for stage in stages] == [first, *others]
    assert [block for stage in stages for block in stage] == list(range(first, blocks + 1))


def test_stages_that_are_given_stay():
    assert stages_of(ModelConfig(stages=((6, 7), (9,))), 24) == ((6, 7), (9,))
    assert scaled_stages(((6, 7, 8),), 12) == ((9, 10, 11, 12),)
    assert stages_of(ModelConfig(), 12) == PAPER_STAGES


@pytest.mark.parametrize(("architecture", "blocks"), [("ViT-L-14-quickgelu", 24), ("ViT-B-16", 12), ("bundled", 12)])
def test_blocks_without_the_weights(architecture: str, blocks: int):
    assert blocks_of(architecture) == blocks


def test_a_tower_that_is_no_transformer():
    with pytest.raises(UserError, match=r'The image tower of "RN50" is no vision transformer'):
        blocks_of("RN50")


@pytest.mark.slow
def test_a_recipe_of_vit_l_on_a_small_clip_of_24_blocks(squares_recipe: Recipe, tmp_path):
    """Run folder and checkpoint name the stages that were trained."""
    settings = json.loads(Path(squares_recipe.clip.architecture).read_text())
    vision = settings["vision_cfg"]
    vision["layers"], vision["patch_size"], vision["image_size"] = 24, 14, 56
    clip = tmp_path / "deep.json"
    clip.write_text(json.dumps(settings))
    small = ["crop=56", "short_side=56", f"dataset={json.dumps(str(squares_recipe.data.dataset))}"]
    quick = ["iterations=1", "batch=2", "workers=0", "pictures=0"]
    overrides = [*(f"data.{key}" for key in small), *(f"train.{key}" for key in quick), "model.decoder.heads=4"]
    recipe = load_recipe("voc/cascade-zegclip-vit-l", [*overrides, "inference.crop=56", "inference.stride=42"])
    recipe = recipe.changed(clip={"architecture": str(clip), "weights": "random:1"}, data={"split": None})
    result = train(recipe, tmp_path / "run", device="cpu")
    expected = (tuple(range(12, 18)), tuple(range(18, 24)), (24,))
    assert result.recipe.model.stages == RunFolder(tmp_path / "run").recipe().model.stages == expected
    model = CascadeCLIP.from_pretrained(tmp_path / "run" / "model")
    assert (model.recipe.model.stages, model.network.head.stages) == (expected, expected)
    assert train(None, tmp_path / "run", device="cpu", resume=True).recipe == result.recipe
