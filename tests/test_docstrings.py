"""The examples in docstrings give what they show."""

import doctest
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from cascade_clip.shapes.prepare import prepare_shapes

PUBLIC = (
    "config.recipes:load_recipe",
    "data.catalogue:get_split",
    "evaluation.evaluate:evaluate",
    "inference.predictor:Predictor",
    "inference.vocabulary:Vocabulary",
    "inference.segmentation:Segmentation",
    "segmenter:CascadeCLIP",
    "training.run_training:train",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with a few drawn scenes as the dataset of the examples."""
    folder = tmp_path_factory.mktemp("examples")
    prepare_shapes(folder / "prepared" / "shapes", train=4, val=4, workers=1)
    return folder


@pytest.mark.parametrize("name", PUBLIC)
def test_examples(name: str, prepared: Path, monkeypatch):
    monkeypatch.chdir(prepared)
    public = resolve_name(f"cascade_clip.{name}")
    (test, *_) = doctest.DocTestFinder(recurse=False).find(public, globs=vars(sys.modules[public.__module__]).copy())
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
