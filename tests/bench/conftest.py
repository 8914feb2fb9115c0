"""A tiny model with random weights, as `bench` builds it."""

from pathlib import Path

import pytest

from cascade_clip.bench.settings import BenchSettings


@pytest.fixture(scope="session")
def tiny_settings(tiny_clip_file: Path, tiny_settings: list[str]) -> BenchSettings:
    """Predict with 7 classes at 64 x 80 pixels: two windows."""
    return BenchSettings(
        kind="predict",
        architecture=str(tiny_clip_file),
        overrides=tuple(given for given in tiny_settings if given.startswith(("model.", "data.", "inference."))),
        classes=7,
        size=(64, 80),
        repeats=2,
        threads=1,
        device="cpu",
    )
