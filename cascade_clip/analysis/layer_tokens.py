"""What CKA compares: samples of the tokens of every layer of a model, blocks and parts of the head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascade_clip.analysis.block_tokens import BlockTokens, block_tokens, encoder_of, plain_encoder
from cascade_clip.data.transforms import normalise
from cascade_clip.model.clip.image_encoder import ImageEncoder
from cascade_clip.model.head.cascade import CascadeHead
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.runtime import products_in
from cascade_clip.segmenter import CascadeCLIP

Tokens = Literal["patch", "class"]
LayerKind = Literal["blocks", "taps", "stages"]
IMAGES_AT_ONCE = 4
"""Images a forward pass: all layers of them are held at once."""


@dataclass(frozen=True)
class ObservedModel:
    """A model whose layers are looked at.

    Attributes:
        name: What people call it.
        title: What stands above its matrix.
        encoder: In evaluation mode.
        head: What merges tapped blocks into stages; none for CLIP as it is.
        mean: Mean that is subtracted from images, RGB on 0..255.
        std: Standard deviation that divides, RGB on 0..255.
        side: Side in pixels of the square that it is used to.
        device: Where it runs.
        dtype: Precision of its products.
    """

    name: str
    title: str
    encoder: ImageEncoder
    head: CascadeHead | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    side: int
    device: torch.device
    dtype: torch.dtype = torch.float32

    @property
    def widest(self) -> int:
        """Most channels that a layer has."""
        return int(max(self.encoder.visual.proj.shape))

    def layers(self, kinds: Sequence[LayerKind], tokens: Tokens) -> tuple[str, ...]:
        """Names of its layers of these kinds, shallow to deep; the class token is followed through blocks only."""
        named: dict[LayerKind, list[str]] = {"blocks": [f"block {i + 1}" for i in range(self.encoder.blocks)]}
        if tokens == "patch" and self.head is not None:
            named["taps"] = [f"tap {block}" for block in self.encoder.taps]
            named["stages"] = [f"stage {stage_name(stage)}" for stage in self.head.stages]
        return tuple(name for kind in kinds for name in named.get(kind, ()))


def observed_model(model: CascadeCLIP, name: str, title: str) -> ObservedModel:
    """A trained or training-free model as it is, on images as it is used to them."""
    network: nn.Module = model.network
    data = model.recipe.data
    return ObservedModel(
        name,
        title,
        encoder_of(network),
        network.head if isinstance(network, CascadeNetwork) else None,
        data.mean,
        data.std,
        min(data.short_side, model.recipe.inference.crop),
        model.device,
        model.dtype,
    )


def observed_clip(model: CascadeCLIP, name: str, title: str) -> ObservedModel:
    """The CLIP below a model as its authors trained it: no prompts, its own normalisation, the model's image size."""
    clip = model.clip
    encoder = plain_encoder(clip.visual)
    own = observed_model(model, name, title)
    return replace(own, encoder=encoder, head=None, mean=clip.mean, std=clip.std)


def stage_name(stage: Sequence[int]) -> str:
    """A stage's blocks in short: "6-8", "12", "3,6,9"."""
    if len(stage) > 1 and list(stage) == list(range(stage[0], stage[-1] + 1)):
        return f"{stage[0]}-{stage[-1]}"
    return ",".join(map(str, stage))


def layer_samples(
    model: ObservedModel,
    squares: Sequence[NDArray[np.uint8]],
    positions: NDArray[np.int64],
    kinds: Sequence[LayerKind],
    tokens: Sequence[Tokens],
) -> dict[Tokens, list[Tensor]]:
    """Encode images and keep the chosen tokens of every layer.

    Args:
        model: The model.
        squares: B images (side, side, 3) uint8, the side a multiple of the patch size.
        positions: (B, P) patches that are kept of each image, numbered row by row.
        kinds: Which layers.
        tokens: Patch tokens, class token or both.

    Returns:
        For each of `tokens` one tensor a layer, in the order of `ObservedModel.layers`, float32 on the model's device:
        (B·P, W) patch tokens, image by image, or (B, W) class tokens. Taps and stages have C channels.
    """
    parts: dict[Tokens, list[list[Tensor]]] = {kind: [] for kind in tokens}
    for start in range(0, len(squares), IMAGES_AT_ONCE):
        chunk = slice(start, start + IMAGES_AT_ONCE)
        pixels = np.stack([normalise(square, model.mean, model.std) for square in squares[chunk]])
        image = torch.from_numpy(pixels).to(model.device)
        with torch.inference_mode(), products_in(model.dtype, model.device):
            seen = block_tokens(model.encoder, image)
            layers = {kind: list(_layers(model, seen, kinds, kind)) for kind in tokens}
        index = torch.from_numpy(positions[chunk]).to(model.device)[..., None]
        for kind, values in layers.items():
            chosen = [_at(x, index) for x in values] if kind == "patch" else values
            parts[kind].append([x.float() for x in chosen])
    return {kind: [torch.cat(layer) for layer in zip(*chunks, strict=True)] for kind, chunks in parts.items()}


def _at(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens (B·P, W) of (B, N, W) at patches (B, P, 1)."""
    return tokens.gather(1, index.expand(-1, -1, tokens.shape[-1])).flatten(0, 1)


def _layers(model: ObservedModel, seen: BlockTokens, kinds: Sequence[LayerKind], tokens: Tokens) -> Iterator[Tensor]:
    """Tokens (B, N, W) or (B, W) of every layer, in the order of the layers' names."""
    for kind in kinds:
        if kind == "blocks":
            yield from seen.patch_tokens if tokens == "patch" else seen.class_token
        elif model.head is not None and tokens == "patch":
            taps = seen.features.patch_tokens
            if kind == "taps":
                yield from (taps[block] for block in model.encoder.taps)
            else:
                for stage, merge in zip(model.head.stages, model.head.aggregations, strict=True):
                    yield merge([taps[block] for block in stage])
