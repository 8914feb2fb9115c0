"""A model that needs no CLIP: it knows the words red, green and blue."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import typer
from torch.nn import functional as F  # noqa: N812
from typer.testing import CliRunner, Result

from cascade_clip import CascadeCLIP, segmenter
from cascade_clip.config.recipes import load_recipe
from cascade_clip.config.schema import DataConfig, InferenceConfig, PaperFigure
from cascade_clip.data.catalogue import ClassEntry, Split
from cascade_clip.errors import UserError
from cascade_clip_cli.options import with_groups

RGB = {"red": (1.0, -1.0, -1.0), "green": (-1.0, 1.0, -1.0), "blue": (-1.0, -1.0, 1.0)}
COLOURS = ((200, 10, 10), (10, 200, 10), (10, 10, 200))
SPLIT = Split(
    "rgb-seen",
    "rgb",
    tuple(ClassEntry(name, name, colour) for name, colour in zip(RGB, COLOURS, strict=True)),
    frozenset({"blue"}),
)


class ColourNetwork(torch.nn.Module):
    patch_size = 4

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return 2 * torch.einsum("bchw,kc->bkhw", F.avg_pool2d(image, 4), text)


class ColourModel(CascadeCLIP):
    """A model without CLIP."""

    def __init__(self) -> None:
        self.network = ColourNetwork()
        self.recipe = load_recipe("folder/cascade-zegclip").changed(
            name="colours",
            paper=PaperFigure(table="table2_sota", row="Cascade-CLIP"),
            data=DataConfig(short_side=32, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)),
            inference=InferenceConfig(crop=32, stride=24),
        )
        self.split: Split | None = SPLIT
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.embedded: list[tuple[str, ...]] = []
        self.compiled: list[tuple[int, ...]] = []

    def compile(self, text: torch.Tensor) -> float:
        self.compiled.append(tuple(text.shape))
        return 1.5

    def release_text_tower(self) -> None:
        self.released = True

    def embed(self, classes: Sequence[str], *, templates: str | None = None) -> torch.Tensor:
        self.embedded.append(tuple(classes))
        return torch.tensor([RGB[name.split("|")[0]] for name in classes])


@pytest.fixture
def colour_model(monkeypatch) -> ColourModel:
    """The model that every checkpoint name loads; `loads` counts how often."""
    model = ColourModel()
    model.loads = []

    def load(checkpoint: str, **options: Any) -> ColourModel:
        model.loads.append((checkpoint, options))
        return model

    monkeypatch.setattr(segmenter.CascadeCLIP, "from_pretrained", load)
    return model


@pytest.fixture
def run_command() -> Callable[..., Result]:
    """Run one command function with arguments, which ends with this exit code; what it raises is raised."""

    def run(command: Callable[..., None], *arguments: object, code: int = 0) -> Result:
        app = typer.Typer()
        app.command()(with_groups(command))
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def refusal(run_command: Callable[..., Result]) -> Callable[..., str]:
    """Run a command function that refuses its arguments; returns its sentence."""

    def refuse(command: Callable[..., None], *arguments: object) -> str:
        with pytest.raises(UserError) as caught:
            run_command(command, *arguments)
        return str(caught.value)

    return refuse
