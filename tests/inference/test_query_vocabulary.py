"""Queries a word and the words of the background, and the settings that models have without being asked."""

from typing import Any

import pytest
import torch

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.config.training_free import BACKGROUND
from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.inference.query_vocabulary import BackgroundWords, background_words, embedded_queries
from cascade_clip.inference.released_settings import BUNDLED_BACKGROUND, with_refinement
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.shapes.classes import STUFF


def embed(words: Any) -> torch.Tensor:
    return torch.tensor([[float(len(word))] for (word,) in words])


@pytest.mark.parametrize(
    ("given", "classes", "expected"),
    [
        (None, [["cat"]], BackgroundWords(BACKGROUND, True)),
        (None, [["cat"], ["dog"]], BackgroundWords(BACKGROUND, False)),
        (True, [["cat"], ["dog"]], BackgroundWords(BACKGROUND, True)),
        (False, [["cat"]], BackgroundWords(BACKGROUND, False)),
        (["sky", "wall"], [["cat"]], BackgroundWords(("sky", "wall"), True)),
    ],
)
def test_a_single_class_has_a_background_unless_told_otherwise(
    given: Any, classes: list[list[str]], expected: BackgroundWords
):
    assert background_words(given, classes) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "has an empty word"),
        (["sky", " "], "has an empty word"),
        (["sky", "Sky"], '"Sky" is given twice'),
        (["kitten"], '"kitten" is both a class and a background word'),
        ("sky", 'is one string, "sky"'),
    ],
)
def test_words_that_do_not_fit(given: Any, message: str):
    with pytest.raises(UserError, match=message):
        background_words(given, [["cat", "kitten"]])


def test_background_words_that_are_classes_stay_classes():
    about = background_words(True, [["Tree", "bush"], ["cat"]])
    text, queries = embedded_queries([["Tree", "bush"], ["cat"]], embed, about)
    assert queries.index.tolist() == [0, 0, 1] + [2] * 25
    assert queries.reference.tolist() == [True, False, False] + [True] * 25
    assert "tree" not in queries.background
    assert len(queries.background) == 25
    assert text[:, 0].tolist()[:3] == [4.0, 4.0, 3.0]
    _, unused = embedded_queries([["cat"]], embed, background_words(False, [["cat"]]))
    assert (unused.background, int(unused.reference.sum())) == ((), 26)
    given = torch.tensor([[7.0], [8.0]])
    text, queries = embedded_queries([["a", "b"], ["c"]], embed, None, given)
    assert (text.tolist(), queries.index.tolist()) == (given.tolist(), [0, 1])


@pytest.fixture(scope="module")
def bundled() -> CascadeCLIP:
    return CascadeCLIP.from_pretrained("dense:bundled")


def test_the_bundled_clip_has_the_textures_of_its_world_as_background(bundled: CascadeCLIP):
    assert BUNDLED_BACKGROUND == STUFF
    vocabulary = bundled.vocabulary(["red circle|red disc"])
    assert vocabulary.names == ("red circle",)
    assert vocabulary.background == STUFF
    assert vocabulary.text.shape == (2 + len(STUFF), 128)
    assert bundled.vocabulary(["red circle"], background=False).background == ()
    given = bundled.vocabulary(["red circle", "x"], text_embeddings=vocabulary.text[:2])
    assert (len(given), given.text.shape, given.background) == (2, (2, 128), ())


def test_published_benchmarks_are_evaluated_as_released(bundled: CascadeCLIP):
    split = get_split("voc-background")
    model = bundled.for_benchmark(split)
    inference, free = model.recipe.inference, model.recipe.inference.training_free
    assert (inference.crop, inference.stride, model.recipe.data.short_side) == (224, 112, 336)
    assert (free.probability_threshold, free.score, free.whole_image) == (0.15, "softmax", False)
    vocabulary = model.vocabulary(split=split)
    assert (len(vocabulary), vocabulary.background, vocabulary.text.shape[0]) == (21, (), 56)
    assert bundled.recipe.inference.training_free.score == "background"
    drawn = bundled.for_benchmark(get_split("shapes")).recipe
    assert drawn.inference.training_free.score == "softmax"
    assert drawn.inference.crop == bundled.recipe.inference.crop


def test_resclip_takes_the_numbers_of_the_benchmark():
    model = CascadeCLIP.from_pretrained("dense:bundled?method=resclip")
    method = model.for_benchmark(get_split("cityscapes")).network.method
    assert method.scores.__self__.residual_share == 0.2
    assert method.scores.__self__.sharpness == 2.1
    assert model.for_benchmark(get_split("shapes")).network is model.network


def test_refinement_is_switched_on_and_off(bundled: CascadeCLIP):
    naclip = CascadeCLIP.from_pretrained("dense:bundled?method=naclip").for_benchmark(get_split("ade20k"))
    steps = [
        model.predictor(refine=refine).inference.training_free.pamr_steps
        for model in (bundled, naclip)
        for refine in (None, True, False)
    ]
    assert steps == [0, 10, 0, 10, 10, 0]
    assert with_refinement(InferenceConfig(), False) == InferenceConfig()
    with pytest.raises(UserError, match="this one is trained"):
        with_refinement(InferenceConfig(), True)


def test_a_trained_model_has_no_background(tiny_model: CascadeCLIP):
    assert tiny_model.vocabulary(["road"], background=False).background == ()
    with pytest.raises(UserError, match="A background is for training-free models"):
        tiny_model.vocabulary(["road"], background=True)
