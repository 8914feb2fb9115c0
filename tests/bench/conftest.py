"""A tiny model with random weights, as `bench` builds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade_clip.bench.settings import BenchSettings


@pytest.fixture(scope="session")
def tiny_settings(tiny_clip_file: Path) -> BenchSettings:
    """Predict with 7 classes at 64 x 80 pixels: two windows."""
    return BenchSettings(
        kind="predict",
        architecture=str(tiny_clip_file),
        overrides=(
            "model.stages=[[1, 2], [3], [4]]",
            "model.prompts.tokens=3",
            "model.decoder.heads=4",
            "data.short_side=64",
            "data.long_side=256",
            "data.crop=64",
            "inference.crop=64",
            "inference.stride=53",
        ),
        classes=7,
        size=(64, 80),
        repeats=2,
        threads=1,
        device="cpu",
    )
