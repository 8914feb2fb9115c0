"""Tokens of models over many images, a batch of images at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cascade_clip.analysis.image_set import ImageSet, central_square
from cascade_clip.analysis.layer_tokens import LayerKind, ObservedModel, Tokens, layer_samples

Squares = list[NDArray[np.uint8]]


def drawn_patches(seed: int, number: int, *, grid: int, patches: int) -> NDArray[np.int64]:
    """Draw patches of one image; the same ones for every model and however the images are batched.

    Args:
        seed: Decides the draw, together with the number.
        number: The image's number.
        grid: Patches along a side.
        patches: How many of the grid² are drawn, each at most once.

    Returns:
        (patches,) rising, numbered row by row.
    """
    drawn = np.random.default_rng([seed, number]).choice(grid**2, patches, replace=False)
    return np.sort(drawn).astype(np.int64)


def token_batches(
    models: Sequence[ObservedModel],
    images: ImageSet,
    batches: Sequence[NDArray[np.int64]],
    draw: Callable[[int], NDArray[np.int64]],
    grid: int,
    layers: Sequence[LayerKind],
    tokens: Sequence[Tokens],
) -> Iterator[list[dict[Tokens, list[Tensor]]]]:
    """Encode batch after batch; the next one is read while the models work on the present one.

    Args:
        models: Each sees the middle square of an image at the size that gives its patches the same grid.
        images: The images.
        batches: Numbers of the images of each batch.
        draw: Number of an image -> patches that are kept of it.
        grid: Patches along a side.
        layers: Which layers.
        tokens: Patch tokens, class token or both.

    Yields:
        For every batch what `layer_samples` gives, model by model.

    Raises:
        UserError: An image that cannot be read.
    """
    sides = [grid * model.encoder.patch_size for model in models]
    for numbers, squares in zip(batches, _read_ahead(images, batches, sides), strict=True):
        positions = np.stack([draw(int(number)) for number in numbers])
        yield [layer_samples(model, own, positions, layers, tokens) for model, own in zip(models, squares, strict=True)]


def _read_ahead(
    images: ImageSet, batches: Sequence[NDArray[np.int64]], sides: Sequence[int]
) -> Iterator[list[Squares]]:
    """The images of every batch, once for each of the sides."""

    def read(numbers: NDArray[np.int64]) -> list[Squares]:
        by_side: list[Squares] = [[] for _ in sides]
        for number in numbers:
            image = images.read(int(number))
            for squares, side in zip(by_side, sides, strict=True):
                squares.append(central_square(image, side))
        return by_side

    with ThreadPoolExecutor(max_workers=1) as reader:
        reads = (reader.submit(read, batch) for batch in batches)
        ahead = next(reads, None)
        while ahead is not None:
            current, ahead = ahead, next(reads, None)
            yield current.result()
