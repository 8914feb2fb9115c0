"""SPT-SEG from recipe to predictions: which loss it trains with, precision, windows of other sizes."""

import numpy as np
import pytest
from trained_runs import changed, interrupt, log_lines, same, spt_seg, train_to_weights

from cascade_clip.config.recipes import load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.segmenter import CascadeCLIP

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser

PIXELS = np.random.default_rng(0).integers(0, 255, (70, 110, 3), dtype=np.uint8)
NAMES = ["red", "green", "blue"]


def test_the_host_decides_the_loss_unless_the_recipe_does(squares_recipe: Recipe):
    recipe = spt_seg(squares_recipe)
    assert recipe.region_loss == "ssim"
    assert squares_recipe.region_loss == "dice"
    assert recipe.changed(loss={"region": "dice"}).region_loss == "dice"
    assert load_recipe("voc/zegclip", ["loss.region=ssim"]).region_loss == "ssim"


def test_from_training_to_prediction(squares_recipe: Recipe, tmp_path):
    """Terms are logged by name, a run resumes to the same weights, and windows of any size are segmented.

    The spectral weight is made for 4 x 4 patches; windows of 3 x 3 and whole images of 5 x 7 do as well.
    """
    recipe = changed(spt_seg(squares_recipe), iterations=4)
    whole = train_to_weights(recipe, tmp_path / "whole")
    for line in log_lines(tmp_path / "whole"):
        assert line["loss"] == pytest.approx(line["focal"] + line["ssim"])
        assert 0 < line["ssim"] < 2
        assert "dice" not in line
    interrupt(recipe, tmp_path / "half", 3)
    assert same(whole, train_to_weights(recipe, tmp_path / "half", resume=True))
    model = CascadeCLIP.from_pretrained(tmp_path / "whole" / "model")
    usual = model.segment(PIXELS, NAMES)[0].scores
    for crop, stride in ((48, 32), (512, 426)):
        model.recipe = model.recipe.changed(inference={"crop": crop, "stride": stride})
        scores = model.segment(PIXELS, NAMES)[0].scores
        assert scores.shape == usual.shape
        assert np.isfinite(scores).all()
        assert not np.array_equal(scores, usual)
