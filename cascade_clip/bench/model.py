"""The model that is measured, with random or trained weights, and its bare image tower."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cascade_clip.bench.settings import ALL_CLASSES, ARCHITECTURE, CLASSES, RECIPE, BenchSettings
from cascade_clip.config.recipes import load_recipe
from cascade_clip.data.catalogue import ClassEntry, Split, default_colour
from cascade_clip.data.resize import test_size
from cascade_clip.errors import UserError
from cascade_clip.inference.sliding_window import window_boxes
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import load_clip
from cascade_clip.model.clip.open_clip_model import build_model
from cascade_clip.model.clip.positions import resize_positions
from cascade_clip.model.dense import DenseNetwork
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.runtime import products_in
from cascade_clip.segmenter import CascadeCLIP

UNSEEN_SHARE = 0.09
"""Share of the drawn classes that count as unseen, as of COCO-Stuff's 171."""


class BenchModel(CascadeCLIP):
    """A model whose text embeddings may be drawn: the text tower's time is none of what is measured."""

    drawn_text: Tensor | None = None

    def text_embeddings_for(self, split: Split, *, templates: str | None = None) -> Tensor:
        """The drawn embeddings (K, C) where there are some, else the text tower's."""
        return self.drawn_text if self.drawn_text is not None else super().text_embeddings_for(split)


def load_bench_model(settings: BenchSettings) -> tuple[BenchModel, Split]:
    """Load or build what is measured.

    Returns:
        The model in evaluation mode, and its classes: those it was trained on, or "class 0" and so on with random unit
        vectors as text embeddings.

    Raises:
        UserError: No such checkpoint, recipe, architecture, device or precision, or both a checkpoint and settings of a
            random network.
    """
    if settings.checkpoint is not None:
        if settings.overrides or (settings.recipe, settings.architecture) != (RECIPE, ARCHITECTURE):
            raise UserError(
                "A checkpoint brings its own recipe and architecture: leave --recipe, --set and --architecture out."
            )
        model = BenchModel.from_pretrained(settings.checkpoint, device=settings.device, precision=settings.precision)
        if not isinstance(model.network, CascadeNetwork | DenseNetwork):
            raise UserError(
                f'"{settings.checkpoint}" is an exported model: measure the checkpoint that it was made from.'
            )
        if settings.classes is None and model.split is not None:
            return model, model.split
    else:
        model = _random_model(settings)
    classes = settings.classes or CLASSES.get(settings.kind, ALL_CLASSES)
    generator = torch.Generator().manual_seed(settings.seed)
    drawn = torch.randn(classes, model.clip.visual.proj.shape[1], generator=generator)
    model.drawn_text = F.normalize(drawn, dim=-1).to(model.device)
    return model, drawn_split(classes, all_seen=settings.kind == "train")


def drawn_split(classes: int, *, all_seen: bool) -> Split:
    """Classes "class 0" and so on, the last of which are unseen, at least one is seen."""
    names = [f"class {index}" for index in range(classes)]
    unseen = 0 if all_seen else round(UNSEEN_SHARE * classes)
    entries = tuple(ClassEntry(name, name, default_colour(index)) for index, name in enumerate(names))
    return Split("bench", "bench", entries, frozenset(names[classes - unseen :]))


def seen_mask(split: Split) -> Tensor:
    """(K,) bool: which classes the bias is taken from."""
    return torch.tensor([name not in split.unseen for name in split.class_names])


def window_size(model: CascadeCLIP, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the windows that the network sees of an image, padded to whole patches."""
    height, width = test_size(size[0], size[1], model.recipe.data.short_side)
    inference, patch = model.recipe.inference, model.network.patch_size
    y1, x1, y2, x2 = window_boxes(height, width, inference.crop, inference.stride)[0]
    return -(-(y2 - y1) // patch) * patch, -(-(x2 - x1) // patch) * patch


def bare_tower(model: CascadeCLIP, size: tuple[int, int], batch: int) -> Callable[[], Tensor]:
    """open_clip's own image tower on images of a size: the limit of what a model on CLIP can reach.

    Args:
        model: Whose CLIP, device and precision count.
        size: Height and width in pixels, multiples of the patch size.
        batch: B.

    Returns:
        A call of the tower's forward without gradient: (B, C). The tower is built in the first call, so that it
        takes no memory where it never runs; its positions are resized once.
    """

    @cache
    def tower() -> tuple[nn.Module, Tensor]:
        image = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))
        return _own_tower(model, size), image.to(model.device)

    @torch.inference_mode()
    def forward() -> Tensor:
        visual, image = tower()
        with products_in(model.dtype, model.device):
            embedded: Tensor = visual(image)
        return embedded

    return forward


@torch.inference_mode(mode=False)
def _own_tower(model: CascadeCLIP, size: tuple[int, int]) -> nn.Module:
    # Built anew: what a network is built on has activations of its own.
    visual: Any = build_model({**model.clip.identity.model_config, "text_cfg": None}).visual
    visual.load_state_dict(model.clip.visual.state_dict())
    patch = int(visual.patch_size[0])
    positions = resize_positions(
        visual.positional_embedding, tuple(visual.grid_size), (size[0] // patch, size[1] // patch), "bicubic-antialias"
    )
    visual.positional_embedding = nn.Parameter(positions, requires_grad=False)
    tower: nn.Module = visual.to(model.device)
    return tower


def _random_model(settings: BenchSettings) -> BenchModel:
    chosen = [f'clip.architecture="{settings.architecture}"', f'clip.weights="random:{settings.seed}"']
    recipe = load_recipe(settings.recipe, [*settings.overrides, *chosen])
    clip = load_clip(recipe.clip.architecture, recipe.clip.weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_network(recipe.model, clip.visual)
    return BenchModel(network, clip, recipe, device=settings.device, precision=settings.precision)
