import json
import pickle

import numpy as np
import pytest
from PIL import Image

from cascade_clip import CascadeCLIP, Segmentation
from cascade_clip.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 255, (70, 110, 3), dtype=np.uint8)
WORDS = ["grass", "water", "red circle", "sky", "tree"]


def test_summary_of_many_rows_is_summed_over_blocks():
    labels = np.zeros((2500, 2), dtype=np.uint8)
    labels[2400:] = 1
    summary = Segmentation(labels, np.full(labels.shape, 0.5, np.float32), ("a", "b")).summary()
    assert [s.pixels for s in summary] == [4800, 200]
    assert summary[1].mean_score == pytest.approx(0.5)


@pytest.fixture(scope="module", params=["bundled", "dense:bundled", "dense:bundled?method=naclip"])
def found(request: pytest.FixtureRequest) -> Segmentation:
    """Of a trained model with a bias and mirrored windows; of training-free ones with background words as classes."""
    model = CascadeCLIP.from_pretrained(request.param)
    if request.param == "bundled":
        windows = model.recipe.inference.model_copy(update={"flip": True, "seen_bias": 0.1})
        return model.predictor(windows).segment_image(PIXELS, model.vocabulary(split=model.split))
    return model.segment(PIXELS, WORDS, refine="naclip" in request.param)[0]


def test_scores_of_all_classes_are_those_that_labels_are_made_from(found: Segmentation):
    each = np.stack([found.scores_of(name) for name in found.classes])
    assert each.dtype == np.float32
    winners = np.take_along_axis(each, found.labels[None].astype(np.int64), axis=0)[0]
    np.testing.assert_allclose(winners, found.scores, rtol=0, atol=1e-6)
    if found.classes != tuple(WORDS):  # of training-free models the cosines decide
        np.testing.assert_array_equal(winners, each.max(axis=0))
    assert found.class_scores.dtype == np.float16
    np.testing.assert_array_equal(found.class_scores, each.astype(np.float16))


def test_it_can_be_sent_to_another_process(found: Segmentation):
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.scores_of(found.classes[1]), found.scores_of(found.classes[1]))


def test_a_class_has_the_colour_it_was_trained_with():
    model = CascadeCLIP.from_pretrained("bundled")
    named = model.segment(PIXELS, ["unheard of", "grass"])[0]
    assert named.colours[1] == model.split.colours[model.split.class_names.index("grass")]


def test_files_and_notebooks_show_the_overlay(tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(PIXELS).save(photo)
    model = CascadeCLIP.from_pretrained("bundled")
    found, unnamed = model.segment([photo, PIXELS], WORDS)
    files = found.save(tmp_path / "out", scores=True)
    assert found._repr_png_() == files.overlay.read_bytes()
    with np.load(files.scores, allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["scores"], found.class_scores)
        assert stored["names"].tolist() == WORDS
    assert json.loads(files.record.read_bytes())["image"] == str(photo)
    # The same image replaces its files, and none of an earlier run's stays; another one does not.
    again = found.save(tmp_path / "out")
    assert again.labels == files.labels
    assert not files.scores.exists()
    assert [unnamed.save(tmp_path / "out").labels.name for _ in range(2)] == ["image.labels.png", "image-2.labels.png"]
    (tmp_path / "other").mkdir()
    photo.rename(tmp_path / "other" / "photo.png")
    other = model.segment(tmp_path / "other" / "photo.png", WORDS)[0].save(tmp_path / "out")
    assert other.labels.name == "other-photo.labels.png"


def test_what_a_segmentation_made_by_hand_lacks_is_said():
    made = Segmentation(np.zeros((2, 3), np.uint8), np.ones((2, 3), np.float32), ("road", "tree"))
    assert made._repr_png_() is None
    assert repr(made) == "<Segmentation of an image, 3 x 2 pixels: road 100.0 %>"
    with pytest.raises(UserError, match="holds no image to draw on"):
        made.overlay()
    with pytest.raises(UserError, match=r'"tre" is none of the classes\. Did you mean "tree"'):
        made.scores_of("tre")
    for ask in (lambda: made.scores_of("tree"), lambda: made.class_scores):
        with pytest.raises(UserError, match="holds winning scores only"):
            ask()


def test_scores_that_do_not_fit_into_memory_are_refused(found: Segmentation, monkeypatch):
    monkeypatch.setattr("cascade_clip.runtime._memory", lambda: 1000)
    with pytest.raises(UserError, match=r"classes at 110 x 70 pixels takes at least .* one by one with scores_of"):
        _ = found.class_scores
