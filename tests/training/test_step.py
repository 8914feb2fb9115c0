"""The learning rate that every setting of a recipe has its part in."""

import pytest

from cascade_clip.config.schema import Recipe, TrainConfig
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip
from cascade_clip.training.step import build_optimizer, set_learning_rate


def test_every_setting_of_the_schedule_counts(tiny_recipe: Recipe, tiny_clip: Clip) -> None:
    rates = {"lr": 1e-3, "min_lr": 1e-4, "power": 2.0, "encoder_lr_factor": 2.0, "head_lr_factor": 3.0}
    config = TrainConfig(iterations=10, warmup=4, warmup_ratio=0.2, **rates)
    optimizer = build_optimizer(build_network(tiny_recipe.model, tiny_clip.visual), config)
    first = set_learning_rate(optimizer, 1, config)
    expected = [((factor * 1e-3 - 1e-4) * 0.9**2 + 1e-4) * (1 - 0.75 * 0.8) for factor in (2, 3)]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)
    assert first == pytest.approx(expected[0])
