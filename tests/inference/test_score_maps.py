"""From which maps the labels of training-free models are made."""

import pytest
import torch

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.config.training_free import TrainingFreeConfig
from cascade_clip.inference.query_labels import QueryLabels
from cascade_clip.inference.score_maps import ScoreMaps
from cascade_clip.inference.sliding_window import WindowLogits
from cascade_clip.inference.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"direct": True}, (8, 8)),
        ({"whole_image": True}, (8, 8)),
        ({"whole_image": True, "direct": True}, (2, 2)),
        ({"whole_image": True, "direct": True, "pamr_steps": 1}, (4, 4)),
    ],
)
def test_maps_keep_the_grid_of_patches_only_where_they_are_resized_at_once(
    settings: dict[str, object], size: tuple[int, int]
):
    windows = WindowLogits((8, 8), [(0, 0, 8, 8)], torch.rand(1, 2, 2, 2), None, (8, 8))
    inference = InferenceConfig(training_free=TrainingFreeConfig(**settings))
    labels = ScoreMaps(
        windows, (4, 4), torch.zeros(3, 8, 8), Vocabulary.of_names(None, torch.eye(2)), inference
    ).labels()
    assert isinstance(labels, QueryLabels)
    assert labels.maps.shape == (2, *size)
