"""Options and fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Threads of this process and of those it starts: the suite's machine has two cores, and timings should not swing.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ["NO_COLOR"] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        type=Path,
        default=Path(__file__).parent / "golden",
        help="Folder laid out like the golden data; default: the committed selection.",
    )


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.config.getoption("--golden")
    if not folder.is_dir():
        raise pytest.UsageError(f"--golden {folder} is no folder")
    return folder


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads or writes the user's caches and data, nor depends on the terminal."""
    folder = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("CASCADE_CLIP_CACHE", str(folder / "cache"))
    monkeypatch.setenv("CASCADE_CLIP_DATA", str(folder / "data"))
    # Rich folds tables at the width of its console; tests compare whole lines.
    monkeypatch.setenv("COLUMNS", "400")
    yield
