"""Options and fixtures that every test may use."""

import importlib.util
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before anything is imported that reads them. One thread here and in every process that a test starts: only equal
# thread counts give results equal to the last bit.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ["NO_COLOR"] = "1"
# A process of pytest-xdist inherits the terminal's size, which a console would keep from its making on.
os.environ.pop("COLUMNS", None)
os.environ.pop("LINES", None)

import datasets
import pytest
import torch
from tiny_data import write_tiny_dataset
from two_blocks import two_block_model

from cascade_clip.config.recipes import load_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.export.exported_file import PACKAGES
from cascade_clip.export.exported_folder import ExportedModel, export_model
from cascade_clip.inference.exported_network import RUNTIMES
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip, load_clip
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip_cli.console import stderr

torch.set_num_threads(1)
INSTALLED_RUNTIMES = [name for name, runtime in RUNTIMES.items() if importlib.util.find_spec(runtime.package)]


@pytest.fixture(params=RUNTIMES)
def runtime(request) -> str:
    """Each runtime of exported models, as far as it is installed."""
    if request.param not in INSTALLED_RUNTIMES:
        pytest.skip(f"the extra {request.param} is not installed")
    return str(request.param)


@pytest.fixture
def runtimes() -> list[str]:
    """All that are installed."""
    return INSTALLED_RUNTIMES


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        type=Path,
        default=Path(__file__).parent / "golden",
        help="Folder laid out like the golden data; default: the committed selection.",
    )


@pytest.fixture(scope="session")
def golden(request) -> Path:
    folder: Path = request.config.getoption("--golden")
    if not folder.is_dir():
        raise pytest.UsageError(f"--golden {folder} is no folder")
    return folder


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path_factory, monkeypatch) -> None:
    """No test reads or writes the user's caches and data, nor depends on the terminal."""
    folder = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("CASCADE_CLIP_CACHE", str(folder / "cache"))
    monkeypatch.setenv("CASCADE_CLIP_DATA", str(folder / "data"))
    # Rich folds tables at the width of its console; tests compare whole lines.
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture(autouse=True)
def own_console() -> Iterator[None]:
    """What a command does to the console and the log (--quiet, for one) ends with its test."""
    logger = logging.getLogger("cascade_clip")
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    yield
    stderr.quiet = False
    logger.setLevel(level)
    logger.propagate, logger.handlers[:] = propagate, handlers


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A command's handlers of Ctrl-C and SIGTERM end with its test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def own_datasets_cache(tmp_path, monkeypatch) -> Iterator[None]:
    """What `datasets` converts lies in the test's folder, and a stream ends at once instead of after five seconds."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf-datasets")
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05, raising=False)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(scope="session")
def tiny_clip_file() -> Path:
    """open_clip's settings of a CLIP with 4 blocks, 16-pixel patches and 32 joint channels."""
    return Path(__file__).parent / "tiny" / "clip.json"


@pytest.fixture(scope="session")
def tiny_settings(tiny_clip_file: Path) -> list[str]:
    """Settings of a recipe that trains in seconds: a tiny CLIP with random weights, at 64 pixels."""
    return [
        f'clip.architecture="{tiny_clip_file}"',
        'clip.weights="random:3"',
        "model.stages=[[1, 2], [3], [4]]",
        "model.prompts.tokens=3",
        "model.decoder.heads=4",
        "data.short_side=64",
        "data.long_side=256",
        "data.crop=64",
        "inference.crop=64",
        "inference.stride=53",
        "train.iterations=6",
        "train.batch=4",
        "train.warmup=2",
        "train.workers=0",
        "train.save_every=2",
        "train.log_every=1",
        "train.lr=1e-4",
        "train.pictures=0",
    ]


@pytest.fixture(scope="session")
def tiny_recipe(tiny_settings: list[str]) -> Recipe:
    """Cascade-CLIP on that tiny CLIP."""
    return load_recipe(None, tiny_settings)


@pytest.fixture(scope="session")
def tiny_clip(tiny_recipe: Recipe) -> Clip:
    """The tiny CLIP itself."""
    return load_clip(tiny_recipe.clip.architecture, tiny_recipe.clip.weights)


@pytest.fixture(scope="session")
def squares(tmp_path_factory) -> Path:
    """A prepared dataset of three classes, ten training and three validation images."""
    return write_tiny_dataset(tmp_path_factory.mktemp("prepared") / "squares")


@pytest.fixture(scope="session")
def squares_recipe(tiny_recipe: Recipe, squares: Path) -> Recipe:
    """The tiny recipe on that dataset."""
    return tiny_recipe.changed(name="tiny", data={"dataset": squares})


@pytest.fixture(scope="session")
def tiny_model(tiny_recipe: Recipe, tiny_clip: Clip) -> CascadeCLIP:
    """A model that was never trained."""
    torch.manual_seed(0)
    return CascadeCLIP(build_network(tiny_recipe.model, tiny_clip.visual), tiny_clip, tiny_recipe)


@pytest.fixture(scope="session")
def two_block_export(tiny_recipe: Recipe, tmp_path_factory) -> tuple[CascadeCLIP, ExportedModel]:
    """A model of two blocks and its export as ONNX, which takes seconds."""
    for package in PACKAGES:
        pytest.importorskip(package, reason="the extra onnx is not installed")
    model = two_block_model(tiny_recipe, tmp_path_factory.mktemp("clip"))
    return model, export_model(model, tmp_path_factory.mktemp("export") / "onnx")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory) -> Iterator[Any]:
    """One headless browser for all tests; Debian's packages `chromium` and `chromium-driver`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed, so no page can be opened")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    profile = tmp_path_factory.mktemp("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    yield window
    window.quit()
