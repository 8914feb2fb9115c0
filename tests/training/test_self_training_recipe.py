"""Recipes of self-training: derived from the inductive ones as released, and the shipped ones are these."""

import pytest

from cascade_clip.config.recipes import load_recipe
from cascade_clip.config.schema import PaperFigure, SelfTrainingConfig
from cascade_clip.training.run_training import as_self_training, self_training_recipe


@pytest.mark.parametrize(
    ("dataset", "iterations", "batch", "figures"),
    [("coco", 40_000, 16, True), ("context", 20_000, 16, True), ("voc", 10_000, 32, True), ("shapes", 1_000, 1, False)],
)
def test_released_schedules(dataset: str, iterations: int, batch: int, figures: bool):
    """SPEC section 11; what `self-train` derives is what the shipped recipe says."""
    inductive = load_recipe(f"{dataset}/cascade-zegclip")
    derived, shipped = self_training_recipe(inductive), load_recipe(f"{dataset}/cascade-zegclip-self-training")
    assert (derived.train.iterations, derived.train.batch, derived.train.warmup) == (
        iterations,
        batch,
        inductive.train.warmup,
    )
    assert derived.inference.seen_bias == 0
    assert derived.self_training == SelfTrainingConfig()
    assert derived == shipped.changed(paper=None)
    assert (shipped.paper is not None) is figures


def test_figures_of_the_paper_are_kept_where_they_are_transductive():
    inductive = load_recipe("voc/zegclip")
    assert self_training_recipe(inductive).paper is None
    figure = PaperFigure(table="table10_hosts/transductive", row="ZegCLIP+ST")
    assert self_training_recipe(inductive.changed(paper=figure)).paper == figure


def test_own_recipes_of_self_training(tmp_path):
    """They keep their schedule; seen classes lose no score unless the recipe says so."""
    file = tmp_path / "own.toml"
    file.write_text('extends = "voc/cascade-zegclip"\nname = "own"\n[self_training]\nthreshold = 0.5\n')
    own = as_self_training(load_recipe(str(file), ["train.iterations=7"]))
    assert (own.name, own.train.iterations, own.train.batch, own.inference.seen_bias) == ("own", 7, 16, 0)
    assert as_self_training(load_recipe(str(file), ["inference.seen_bias=0.05"])).inference.seen_bias == 0.05
    assert as_self_training(load_recipe("voc/zegclip")).train.iterations == 10_000
