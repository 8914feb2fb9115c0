import numpy as np
import torch

from cascade_clip.analysis.stage_masks import decoder_names, stage_masks
from cascade_clip.config.schema import Recipe
from cascade_clip.inference.predictor import prepare_image
from cascade_clip.inference.sliding_window import slide_scores
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip
from cascade_clip.segmenter import CascadeCLIP

IMAGE = np.random.default_rng(0).integers(0, 255, (70, 110, 3), dtype=np.uint8)


def test_stages_of_the_chosen_classes_and_their_sum(tiny_model: CascadeCLIP):
    text = tiny_model.embed(["road", "tree", "sky"])
    data, inference = tiny_model.recipe.data, tiny_model.recipe.inference
    predictor = tiny_model.predictor()
    predictor.set_image(IMAGE)
    masks = stage_masks(predictor, text[[2, 0]])
    assert masks.decoders == ("stage {1-2}", "stage {3}", "stage {4}")
    assert masks.masks.shape == (2, 3, 64, 101)
    assert masks.masks.min() >= 0
    assert masks.masks.max() <= 1
    # The sum is what the model scores, before any bias.
    pixels = torch.from_numpy(prepare_image(IMAGE, data))
    scores = slide_scores(tiny_model.network, pixels, text, torch.zeros(3, dtype=torch.bool), inference)
    np.testing.assert_allclose(masks.total, scores[[2, 0]].numpy(), atol=1e-5)


def test_in_one_window_the_logits_of_the_stages_add_up(tiny_model: CascadeCLIP):
    predictor = tiny_model.predictor()
    predictor.set_image(np.ascontiguousarray(IMAGE[:64, :64]))
    masks = stage_masks(predictor, tiny_model.embed(["road"]))
    logits = np.log(masks.masks.astype(np.float64) / (1 - masks.masks))
    expected = 1 / (1 + np.exp(-logits.sum(axis=1)))
    np.testing.assert_allclose(masks.total, expected, atol=1e-4)
    assert np.abs(masks.masks[0, 0] - masks.masks[0, 2]).max() > 1e-3


def test_several_decoders_of_a_stage_are_numbered(tiny_recipe: Recipe, tiny_clip: Clip):
    model = tiny_recipe.model.changed(stages=((1, 3), (4,)), decoders_per_stage=2)
    names = decoder_names(build_network(model, tiny_clip.visual))
    assert names == (
        "stage {1, 3}, decoder 1",
        "stage {1, 3}, decoder 2",
        "stage {4}, decoder 1",
        "stage {4}, decoder 2",
    )
