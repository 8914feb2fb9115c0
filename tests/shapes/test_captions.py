import numpy as np

from cascade_clip.shapes.captions import caption, caption_of_one, with_article
from cascade_clip.shapes.scenes import draw_scene
from cascade_clip.shapes.vocabulary import CLASS_NAMES


def test_articles():
    assert with_article("red star") == "a red star"
    assert with_article("brick wall", "the") == "the brick wall"
    assert with_article("grass") == "grass"


def test_caption_names_what_is_there_and_nothing_else():
    for seed in range(60):
        scene = draw_scene(seed)
        rest = scene.caption
        named = set()
        for name in sorted(CLASS_NAMES, key=len, reverse=True):
            if name in rest:
                named.add(CLASS_NAMES.index(name))
                rest = rest.replace(name, "")
        assert named == set(scene.present), scene.caption


def test_wording_varies():
    rng = np.random.default_rng(0)
    sentences = {caption(["red star", "blue circle"], ["grass"], rng) for _ in range(200)}
    assert len(sentences) > 60


def test_caption_without_things():
    assert "grass" in caption([], ["grass"], np.random.default_rng(0))


def test_one_class_caption_holds_the_name():
    rng = np.random.default_rng(0)
    sentences = {caption_of_one("brick wall", rng) for _ in range(80)}
    assert len(sentences) > 10
    assert all("brick wall" in sentence for sentence in sentences)
