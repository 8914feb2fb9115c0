"""The examples in docstrings give what they show."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from cascade_clip.shapes.prepare import prepare_shapes

MODULES = (
    "config.recipes",
    "data.catalogue",
    "evaluation.evaluate",
    "inference.predictor",
    "inference.segmentation",
    "segmenter",
    "training.run_training",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few drawn scenes as the dataset of the examples."""
    folder = tmp_path_factory.mktemp("examples")
    prepare_shapes(folder / "prepared" / "shapes", train=4, val=4, workers=1)
    return folder


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prepared)
    result = doctest.testmod(import_module(f"cascade_clip.{module}"), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert result.failed == 0
