"""Golden models: the released computation's tensors and our network with the same weights."""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from cascade_clip.checkpoint.upstream import ImportedModel, ImportOptions, import_state_dict
from cascade_clip.checkpoint.upstream_names import PROMPTS, UpstreamLayout, own_name

COMMITTED = Path(__file__).parent.parent / "golden"
MODELS = ("cascade_zegclip_tiny", "zegclip_tiny")
TOLERANCE = {"features": 2e-6, "mask_logits": 5e-5, "scores": 1e-5, "loss": 1e-5, "gradient": 1e-4}
"""Acceptance that `tolerances.json` suggests: absolute, except loss (relative), gradient (of the tensor's maximum)."""
LABEL_GAP = 1e-4
"""Label maps must agree wherever the best two scores are further apart."""


@dataclass
class GoldenModel:
    """One model folder of the golden data."""

    folder: Path
    config: dict[str, Any]
    state: dict[str, Tensor]
    io: dict[str, Tensor]
    loss: dict[str, Tensor]
    imported: ImportedModel
    text: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.text = self.io["text_features_f16"].float()

    @property
    def seen(self) -> list[int]:
        return list(self.config["seen"])

    @property
    def unseen(self) -> list[int]:
        return list(self.config["unseen"])

    @property
    def layout(self) -> UpstreamLayout:
        blocks = self.imported.network.encoder.blocks
        taps = tuple(tap for tap in self.imported.network.encoder.taps if tap != blocks)
        config = self.imported.config
        return UpstreamLayout(taps, config.decoder.layers, config.host == "spt-seg")

    def fresh(self) -> ImportedModel:
        """The network anew, for tests that train it, dropout off as in the golden runs."""
        imported = _import(self.state, self.config)
        for module in imported.network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return imported

    def ours(self, name: str, tensors: dict[str, Tensor]) -> Tensor | None:
        """Our tensor under a released name, out of parameters or gradients by our names; none for a dead one."""
        if name in PROMPTS:
            both = tensors["encoder.prompts.embeddings"]
            return both[:1] if name == PROMPTS[0] else both[1:]
        own = own_name(name, self.layout)
        return None if own is None else tensors[own]


def _import(state: dict[str, Tensor], config: dict[str, Any]) -> ImportedModel:
    settings = config["config"]
    options = ImportOptions(
        vision_heads=settings["backbone"]["heads"],
        text_heads=settings["text_encoder"]["transformer_heads"],
        decoder_heads=settings["decode_head"]["num_heads"],
    )
    return import_state_dict(state, options)


def _load(folder: Path) -> GoldenModel:
    config = json.loads((folder / "config.json").read_text())
    state = load_file(folder / "weights.safetensors")
    return GoldenModel(
        folder,
        config,
        state,
        load_file(folder / "io.safetensors"),
        load_file(folder / "loss.safetensors"),
        _import(state, config),
    )


def _training_free(given: Path) -> Path | None:
    """The folder with the training-free cases, known by its CLIP: the one given, or its folder `training_free`."""
    folders = (given, given / "training_free")
    return next((folder for folder in folders if (folder / "tiny_clip").is_dir()), None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of every tensor in the module's FILES, as far as the folder has them."""
    if not {"file", "key"} <= set(metafunc.fixturenames):
        return
    given: Path = metafunc.config.getoption("--golden")
    folder, tensors = _training_free(given), []
    paths = [] if folder is None else [folder / f"{file}.safetensors" for file in metafunc.module.FILES]
    for path in filter(Path.is_file, paths):
        with safe_open(path, "pt") as opened:
            keys = [key for key in opened.keys() if not key.endswith(".image")]  # noqa: SIM118
        tensors += [pytest.param(path.stem, key, id=f"{path.stem}-{key}") for key in keys]
    missing = pytest.param("", "", marks=pytest.mark.skip(f"--golden {given} has no training-free cases"))
    metafunc.parametrize(("file", "key"), tensors or [missing])


@pytest.fixture(scope="session")
def training_free(request) -> Path:
    """The folder with the golden tensors of training-free methods."""
    given: Path = request.config.getoption("--golden")
    folder = _training_free(given)
    if folder is None:
        pytest.skip(f"--golden {given} has no training-free cases")
    return folder


@pytest.fixture(scope="session")
def golden(golden: Path) -> Path:
    """The folder with the golden models, as far as the one given is not one of training-free cases alone."""
    if (golden / "tiny_clip").is_dir():
        pytest.skip(f"--golden {golden} has training-free cases only")
    return golden


def _skip_what_is_missing(item: pytest.Item) -> Generator[None, object, object]:
    """A folder given with --golden may lack kinds of cases; the committed selection may not."""
    given: Path = item.config.getoption("--golden")
    try:
        return (yield)
    except FileNotFoundError as error:
        if given == COMMITTED or str(given) not in str(error):
            raise
        pytest.skip(f"--golden {given} has no such case: {error}")


pytest_runtest_setup = pytest.hookimpl(wrapper=True)(_skip_what_is_missing)
pytest_runtest_call = pytest.hookimpl(wrapper=True)(_skip_what_is_missing)


@pytest.fixture(scope="session", params=MODELS)
def model(request, golden: Path) -> GoldenModel:
    return _load(golden / request.param)


@pytest.fixture(scope="session")
def spt(golden: Path) -> GoldenModel:
    """SPT-SEG, whose golden folder has other files and another loss."""
    return _load(golden / "spt_tiny")


@pytest.fixture(scope="session")
def assert_labels_agree() -> Callable[[Tensor, Tensor, Tensor], None]:
    """Compare label maps wherever the golden scores' best two are further apart than the gap."""

    def check(ours: Tensor, golden: Tensor, scores: Tensor) -> None:
        best = scores.topk(2, dim=1).values
        clear = best[:, 0] - best[:, 1] > LABEL_GAP
        assert clear.float().mean() > 0.9
        assert torch.equal(ours.long()[clear], golden.long()[clear])

    return check
