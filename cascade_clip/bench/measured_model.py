"""What is asked for and measured with: a model, its bare image tower, drawn images."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cascade_clip.bench.settings import ARCHITECTURE, RECIPE, BenchSettings
from cascade_clip.config.recipes import load_recipe
from cascade_clip.data.catalogue import ClassEntry, Split, default_colour
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.inference.vocabulary import Vocabulary
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.image_encoder import resize_positions
from cascade_clip.model.clip.load import load_clip
from cascade_clip.model.clip.open_clip_model import build_model
from cascade_clip.model.dense import DenseNetwork
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.preparation.prepare_folder import prepare_source_folder
from cascade_clip.runtime import products_in
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.shapes.scenes import draw_scene

_UNSEEN_SHARE = 0.09
"""Share of unseen classes among those that are made up, as in COCO-Stuff."""


class BenchModel(NamedTuple):
    """A model in evaluation mode with the classes it is measured on; `text` is (K, C) float32, on its device."""

    model: CascadeCLIP
    network: CascadeNetwork | DenseNetwork
    split: Split
    text: Tensor

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes with their text embeddings."""
        return Vocabulary.of_split(self.split, self.text)


def load_bench_model(settings: BenchSettings) -> BenchModel:
    """Load a checkpoint with its classes, or build a random model with random text embeddings of "class 0" and so on.

    Raises UserError: no such checkpoint, recipe, architecture, device or precision; an exported model; or both a
    checkpoint and settings of a random model.
    """
    if settings.checkpoint is None:
        model = _random_model(settings)
    elif settings.overrides or (settings.recipe, settings.architecture) != (RECIPE, ARCHITECTURE):
        raise UserError(
            "A checkpoint brings its own recipe and architecture: leave --recipe, --set and --architecture out."
        )
    else:
        model = CascadeCLIP.from_pretrained(settings.checkpoint, device=settings.device, precision=settings.precision)
    network = model.network
    if not isinstance(network, CascadeNetwork | DenseNetwork):
        raise UserError(f'"{settings.checkpoint}" is an exported model: measure the checkpoint that it was made from.')
    if settings.batch is not None and settings.kind != "train":
        inference = model.recipe.inference.model_copy(update={"window_batch": settings.batch})
        model.recipe = model.recipe.model_copy(update={"inference": inference})
    if settings.checkpoint is not None and settings.classes is None and model.split is not None:
        return BenchModel(model, network, model.split, model.text_embeddings_for(model.split))
    count = settings.class_count
    text = torch.randn(count, model.clip.visual.proj.shape[1], generator=torch.Generator().manual_seed(0))
    names = [f"class {index}" for index in range(count)]
    entries = tuple(ClassEntry(name, name, default_colour(index)) for index, name in enumerate(names))
    unseen = 0 if settings.kind == "train" else round(_UNSEEN_SHARE * count)
    split = Split("bench", "bench", entries, frozenset(names[count - unseen :]))
    return BenchModel(model, network, split, F.normalize(text, dim=-1).to(model.device))


def _random_model(settings: BenchSettings) -> CascadeCLIP:
    chosen = [f'clip.architecture="{settings.architecture}"', 'clip.weights="random:0"']
    recipe = load_recipe(settings.recipe, [*settings.overrides, *chosen])
    clip = load_clip(recipe.clip.architecture, recipe.clip.weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(recipe.model, clip.visual)
    return CascadeCLIP(network, clip, recipe, device=settings.device, precision=settings.precision)


def bare_tower(model: CascadeCLIP, size: tuple[int, int], batch: int) -> Callable[[], Tensor]:
    """open_clip's own image tower in the model's precision: the limit of what a model on CLIP can reach.

    Returns a forward pass without gradient on `batch` random images of a size (height, width) of whole patches: (B, C).
    The tower is built in the first call, so that it takes no memory in a process where it never runs.
    """

    @cache
    @torch.inference_mode(mode=False)
    def tower() -> tuple[nn.Module, Tensor]:
        # Built anew: the network's own copy of the tower has other activations.
        visual: Any = build_model({**model.clip.identity.model_config, "text_cfg": None}).visual
        visual.load_state_dict(model.clip.visual.state_dict())
        patch, positions = int(visual.patch_size[0]), visual.positional_embedding
        grid = size[0] // patch, size[1] // patch
        resized = resize_positions(positions, tuple(visual.grid_size), grid, "bicubic-antialias")
        visual.positional_embedding = nn.Parameter(resized, requires_grad=False)
        image = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))
        return visual.to(model.device), image.to(model.device)

    @torch.inference_mode()
    def forward() -> Tensor:
        visual, image = tower()
        with products_in(model.dtype, model.device):
            embedded: Tensor = visual(image)
        return embedded

    return forward


def count_parameters(network: nn.Module) -> dict[str, int]:
    """Numbers of parameters: `total`, and `trainable`, those that require a gradient."""
    parameters = list(network.parameters())
    return {
        "total": sum(parameter.numel() for parameter in parameters),
        "trainable": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    }


def drawn_image(seed: int, size: tuple[int, int], classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A scene of the shapes benchmark, which has edges and flat regions as photographs do, at any size (height, width).

    Gives the image (H, W, 3) uint8 and the label (H, W) uint8, the scene's own modulo `classes`.
    """
    scene = draw_scene((seed, 0, 0), size=128)
    wide = size[1], size[0]
    image = Image.fromarray(scene.image).resize(wide, Image.Resampling.BICUBIC)
    label = Image.fromarray(scene.label % min(classes, 255)).resize(wide, Image.Resampling.NEAREST)
    return np.asarray(image), np.asarray(label)


def draw_folder(folder: Path, count: int, size: tuple[int, int], classes: int) -> None:
    """Write drawn images as `images/N.jpg` and `masks/N.png` into a folder that does not exist yet."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image, label = drawn_image(number, size, classes)
        Image.fromarray(image).save(folder / "images" / f"{number}.jpg", quality=90)
        Image.fromarray(label).save(folder / "masks" / f"{number}.png")


def drawn_dataset(folder: Path, count: int, size: tuple[int, int], split: Split) -> PreparedDataset:
    """Prepare drawn images of a split's classes within an empty folder; all are in the training part."""
    source, names = folder / "drawn", split.class_names
    draw_folder(source, count, size, len(names))
    prepare_source_folder(folder / "dataset", source=source, classes=names, val_fraction=0.0)
    return PreparedDataset.open(folder / "dataset")
