"""Runs that several tests look at."""

from pathlib import Path

import pytest
from tiny_data import CLASSES
from trained_runs import Weights, train_to_weights

from cascade_clip.config.schema import Recipe


@pytest.fixture(scope="session")
def uninterrupted(squares_recipe: Recipe, tmp_path_factory) -> tuple[Path, Weights]:
    """The folder and the last weights of six steps on the squares."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    return folder, train_to_weights(squares_recipe, folder)


@pytest.fixture(scope="session")
def red_seen(tmp_path_factory) -> str:
    """A split of the squares in which green and blue are unseen."""
    file = tmp_path_factory.mktemp("splits") / "red-seen.toml"
    names = ", ".join(f'{{ name = "{name}" }}' for name in CLASSES)
    file.write_text(f'dataset = "squares"\nclasses = [{names}]\n[splits.red-seen]\nunseen = ["green", "blue"]\n')
    return str(file)


@pytest.fixture(scope="session")
def inductive(squares_recipe: Recipe, red_seen: str) -> Recipe:
    """The recipe of a run that learns from labels of red alone."""
    return squares_recipe.changed(data={"split": red_seen})


@pytest.fixture(scope="session")
def half_way(inductive: Recipe, tmp_path_factory) -> Path:
    """The checkpoint of half-way through that run."""
    folder = tmp_path_factory.mktemp("inductive") / "run"
    train_to_weights(inductive, folder)
    return folder / "model-half"
