"""The tokens of every layer over many images: reading images, drawing patches, encoding batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade_clip.analysis.observed_model import BlockTokens, LayerKind, ObservedModel, TokenKind, block_tokens
from cascade_clip.data.images import open_image
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.resize import resize_bilinear, test_size
from cascade_clip.data.transforms import normalise
from cascade_clip.evaluation.evaluate import chosen_images
from cascade_clip.runtime import products_in

IMAGES_AT_ONCE = 4
"""Images per forward pass: the tokens of all layers are held at once."""

LayerTokens = dict[TokenKind, list[Tensor]]
"""For each kind of tokens one float32 tensor (samples, channels) per layer, in the order of `ObservedModel.layers`."""


@dataclass(frozen=True)
class ImageSet:
    """Images by number: `read` gives 0 .. count - 1 as (H, W, 3) uint8 RGB, or raises `UserError`."""

    name: str
    count: int
    read: Callable[[int], NDArray[np.uint8]]


def dataset_images(dataset: PreparedDataset, *, limit: int = 0) -> ImageSet:
    """The validation images of a prepared dataset, or `limit` of them, spread evenly; 0: all."""
    chosen = chosen_images(dataset.count("val"), limit)

    def read(number: int) -> NDArray[np.uint8]:
        record = dataset.read("val", chosen[number])
        return open_image(record.image_bytes, f'Image "{record.id}" of the dataset')

    return ImageSet(f"{dataset.name} val", len(chosen), read)


def file_images(files: Sequence[Path], name: str, *, limit: int = 0) -> ImageSet:
    """Image files, or `limit` of them, spread evenly; 0: all."""
    chosen = chosen_images(len(files), limit)
    return ImageSet(name, len(chosen), lambda number: open_image(files[chosen[number]]))


def central_square(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize (H, W, 3) uint8 RGB as in inference (SPEC section 1, test resize) and crop the middle (side, side, 3)."""
    height, width = test_size(image.shape[0], image.shape[1], side)
    top, left = (height - side) // 2, (width - side) // 2
    return resize_bilinear(image, height, width, (top, left, top + side, left + side))


def drawn_patches(seed: int, number: int, *, grid: int, patches: int) -> NDArray[np.int64]:
    """Draw some of an image's grid² patches by its number, alike for every model and batching: (patches,) rising."""
    drawn = np.random.default_rng([seed, number]).choice(grid**2, patches, replace=False)
    return np.sort(drawn).astype(np.int64)


def batch_tokens(
    models: Sequence[ObservedModel],
    images: ImageSet,
    numbers: NDArray[np.int64],
    *,
    grid: int,
    patches: int,
    seed: int,
    layers: Sequence[LayerKind],
    tokens: Sequence[TokenKind],
) -> list[LayerTokens]:
    """Encode the images of these numbers by each model.

    Each model gets the middle square at the size that gives its patches the same grid of `grid` along a side; of these
    `patches` are drawn, as `seed` decides. Gives, on the models' devices, (images · patches, channels) patch tokens,
    image by image, or (images, channels) class tokens. Raises UserError for an image that cannot be read.
    """
    positions = np.stack([drawn_patches(seed, int(number), grid=grid, patches=patches) for number in numbers])
    whole, found = [images.read(int(number)) for number in numbers], []
    for model in models:
        squares = [central_square(image, grid * model.encoder.patch_size) for image in whole]
        found.append(_layer_tokens(model, squares, positions, layers, tokens))
    return found


def _layer_tokens(
    model: ObservedModel,
    squares: Sequence[NDArray[np.uint8]],
    positions: NDArray[np.int64],
    layers: Sequence[LayerKind],
    tokens: Sequence[TokenKind],
) -> LayerTokens:
    """Encode B squares; of patch tokens only `positions` (B, P) are kept."""
    parts: dict[TokenKind, list[list[Tensor]]] = {kind: [] for kind in tokens}
    for start in range(0, len(squares), IMAGES_AT_ONCE):
        chunk = slice(start, start + IMAGES_AT_ONCE)
        pixels = np.stack([normalise(square, model.mean, model.std) for square in squares[chunk]])
        image = torch.from_numpy(pixels).to(model.device)
        index = torch.from_numpy(positions[chunk]).to(model.device)[..., None]
        with torch.inference_mode(), products_in(model.dtype, model.device):
            encoded = block_tokens(model.encoder, image)
            for kind in tokens:
                values = _layers(model, encoded, layers, kind)
                if kind == "patch":
                    values = (x.take_along_dim(index, dim=1).flatten(0, 1) for x in values)
                parts[kind].append([x.float() for x in values])
    return {kind: [torch.cat(layer) for layer in zip(*chunks, strict=True)] for kind, chunks in parts.items()}


def _layers(
    model: ObservedModel, encoded: BlockTokens, kinds: Sequence[LayerKind], tokens: TokenKind
) -> Iterator[Tensor]:
    """Tokens (B, N, W) or (B, W) of every layer, in the order of the layers' names."""
    for kind in kinds:
        if kind == "blocks":
            yield from encoded.patch_tokens if tokens == "patch" else encoded.class_token
        elif model.head is not None and tokens == "patch":
            taps = encoded.features.patch_tokens
            if kind == "taps":
                yield from (taps[block] for block in model.encoder.taps)
            else:
                for stage, merge in zip(model.head.stages, model.head.aggregations, strict=True):
                    yield merge([taps[block] for block in stage])
