"""Compare all layers of a model, and of another one beside it, over any number of images and processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade_clip.analysis.cka import FEWEST_SAMPLES, BatchHsic, MinibatchCka, batch_hsic, linear_cka
from cascade_clip.analysis.image_set import ImageSet
from cascade_clip.analysis.layer_similarity import LayerSimilarity
from cascade_clip.analysis.layer_tokens import LayerKind, ObservedModel, Tokens
from cascade_clip.analysis.token_batches import drawn_patches, token_batches
from cascade_clip.errors import UserError
from cascade_clip.progress import Progress

Estimator = Literal["exact", "unbiased"]

EXACT_SAMPLES = 8192
"""Up to so many samples, `auto` holds all of them and computes the exact form."""
SAMPLES_A_CHANNEL = 10
"""With fewer, the exact form's bias shows and `auto` takes the unbiased estimator."""
MOST_EXACT_VALUES = 2**28
"""Values that the exact form may hold: 2 GiB in double precision."""


@dataclass(frozen=True)
class SimilaritySettings:
    """What is compared, and on how much of the images.

    Attributes:
        layers: Blocks (raw tokens after each), taps (the head's inputs: after norm and projection, unit vectors),
            stages (what the aggregations make of them).
        tokens: Patch tokens, class token or both.
        estimator: `exact`, `unbiased`, or `auto`: exact where the samples are few enough to be held and at least ten
            a channel.
        side: Side of the square in pixels; none: what the model is used to.
        patches: Patch tokens drawn of each image; 0: all.
        batch: Images a batch of the unbiased estimator, at least; more than half of a second batch makes none of its
            own. 4 or more.
        seed: Decides which patches are drawn.
        cross: Also compare the model's layers with those of the other model.
    """

    layers: tuple[LayerKind, ...] = ("blocks",)
    tokens: tuple[Tokens, ...] = ("patch",)
    estimator: Literal["auto", "exact", "unbiased"] = "auto"
    side: int | None = None
    patches: int = 16
    batch: int = 64
    seed: int = 0
    cross: bool = False


@dataclass(frozen=True)
class Place:
    """One process among several.

    Attributes:
        rank: Its number, 0 .. world - 1.
        world: How many there are.
        gather: Every process gives a value and gets those of all, by rank.
    """

    rank: int = 0
    world: int = 1
    gather: Callable[[Any], list[Any]] = field(default=lambda own: [own])


@dataclass(frozen=True)
class _Comparison:
    """One matrix to compute; models are 0 = the model, 1 = the other."""

    tokens: Tokens
    rows: int
    columns: int
    estimator: Estimator


@dataclass(frozen=True)
class _BatchResult:
    """What leaves the process of a batch: HSIC of some comparisons, samples for the others."""

    hsic: dict[_Comparison, BatchHsic]
    samples: dict[tuple[int, Tokens], list[NDArray[np.float32]]]


def layer_similarities(
    model: ObservedModel,
    images: ImageSet,
    settings: SimilaritySettings,
    *,
    other: ObservedModel | None = None,
    place: Place | None = None,
    progress: Progress | None = None,
) -> list[LayerSimilarity]:
    """Compute the matrices of a model and, beside it, of another one.

    Batches are formed from the images alone and counted in their order, so that any number of processes gives the same
    matrices (to the last bit, where they compute with equally many threads). The unbiased estimator keeps nothing of a
    batch but its HSIC values.

    Args:
        model: The model.
        images: What both models look at; the middle square of each image.
        settings: Layers, tokens, estimator.
        other: Brought to the same grid of patches.
        place: This process among several; none: it is alone.
        progress: Called after every round of batches with how many images of all are done, their number, and a note.

    Returns:
        For each kind of tokens the other model's matrix, the model's, and the crossed one where asked (rows: the
        model's layers, columns: the other's). In other processes than the first: nothing.

    Raises:
        UserError: Layers that no model has, too few images, too many for the exact form, an image that cannot be read.
    """
    place = place or Place()
    models = (model,) if other is None else (model, other)
    grid = _grid(model, settings)
    patches = min(settings.patches or grid**2, grid**2)
    comparisons = [
        comparison
        for tokens in settings.tokens
        for comparison in _comparisons(models, settings, tokens, images.count, patches)
    ]
    counted = {c: _accumulator(models, settings, c) for c in comparisons if c.estimator == "unbiased"}
    kept: list[_BatchResult] = []
    for result in _batch_results(models, images, settings, comparisons, grid, patches, place, progress):
        for comparison, accumulator in counted.items():
            accumulator.add(result.hsic[comparison])
        if place.rank == 0:
            kept += [result] if result.samples else []
    if place.rank != 0:
        return []
    matrices = {c: counted[c].matrix() if c in counted else _exact(c, kept) for c in comparisons}
    return [_similarity(models, settings, c, matrices[c], images.count, patches) for c in comparisons]


def _grid(model: ObservedModel, settings: SimilaritySettings) -> int:
    """Patches along a side of the square."""
    patch = model.encoder.patch_size
    side = settings.side or model.side
    if side < patch:
        raise UserError(f"A square of {side} pixels is smaller than a patch of {patch}: give a larger --size.")
    return side // patch


def _comparisons(
    models: Sequence[ObservedModel], settings: SimilaritySettings, tokens: Tokens, images: int, patches: int
) -> Iterator[_Comparison]:
    """The matrices of one kind of tokens; models without such layers have none."""
    names = [model.layers(settings.layers, tokens) for model in models]
    if not names[0]:
        raise UserError(
            f'"{models[0].name}" has no {" or ".join(settings.layers)} of {tokens} tokens: CLIP as it is and the class'
            " token have only blocks (--layers blocks)."
        )
    samples = images * (patches if tokens == "patch" else 1)
    if samples < FEWEST_SAMPLES:
        raise UserError(
            f"{images} images give {samples} {tokens} tokens, from which no similarity can be estimated: at least"
            f" {FEWEST_SAMPLES} are needed."
        )
    widest = max(model.widest for model in models)
    values = samples * sum(len(layers) * model.widest for layers, model in zip(names, models, strict=True))
    few = SAMPLES_A_CHANNEL * widest <= samples <= EXACT_SAMPLES and values <= MOST_EXACT_VALUES
    estimator: Estimator = "exact" if settings.estimator == "auto" and few else "unbiased"
    if settings.estimator == "exact":
        if values > MOST_EXACT_VALUES:
            raise UserError(
                f"The exact form would hold {samples:,} tokens of {sum(map(len, names))} layers,"
                f" {values * 8 / 2**30:.1f} GiB: take --estimator unbiased, or fewer images (--limit) or patches."
            )
        estimator = "exact"
    for number in reversed(range(len(models))):
        if names[number]:
            yield _Comparison(tokens, number, number, estimator)
    if settings.cross and len(models) > 1 and names[1]:
        yield _Comparison(tokens, 0, 1, estimator)


def _accumulator(
    models: Sequence[ObservedModel], settings: SimilaritySettings, comparison: _Comparison
) -> MinibatchCka:
    sides = (comparison.rows, comparison.columns)
    rows, columns = (len(models[side].layers(settings.layers, comparison.tokens)) for side in sides)
    return MinibatchCka(rows, columns)


def _batch_results(
    models: Sequence[ObservedModel],
    images: ImageSet,
    settings: SimilaritySettings,
    comparisons: Sequence[_Comparison],
    grid: int,
    patches: int,
    place: Place,
    progress: Progress | None,
) -> Iterator[_BatchResult]:
    """Results of all batches in their order, whichever process computed them."""
    batches = np.array_split(np.arange(images.count), max(1, images.count // settings.batch))
    draw = partial(drawn_patches, settings.seed, grid=grid, patches=patches)
    mine = batches[place.rank :: place.world]
    own_batches = token_batches(models, images, mine, draw, grid, settings.layers, settings.tokens)
    for start in range(0, len(batches), place.world):
        seen = next(own_batches, None)
        own = _batch_result(seen, comparisons) if seen is not None else None
        yield from (result for result in place.gather(own) if result is not None)
        if progress is not None:
            done = min(start + place.world, len(batches))
            progress(int(batches[done - 1][-1]) + 1, images.count, f"batch {done} of {len(batches)}")


def _batch_result(seen: Sequence[dict[Tokens, list[Tensor]]], comparisons: Sequence[_Comparison]) -> _BatchResult:
    hsic: dict[_Comparison, BatchHsic] = {}
    samples: dict[tuple[int, Tokens], list[NDArray[np.float32]]] = {}
    for comparison in comparisons:
        rows, columns = (seen[side][comparison.tokens] for side in (comparison.rows, comparison.columns))
        if comparison.estimator == "unbiased":
            own = comparison.rows == comparison.columns
            hsic[comparison] = batch_hsic(_doubled(rows), None if own else _doubled(columns))
        else:
            for side, layers in ((comparison.rows, rows), (comparison.columns, columns)):
                samples[side, comparison.tokens] = [layer.cpu().numpy() for layer in layers]
    return _BatchResult(hsic, samples)


def _doubled(layers: Sequence[Tensor]) -> list[Tensor]:
    """In double precision, on the device where it has that."""
    return [(layer.cpu() if layer.device.type == "mps" else layer).double() for layer in layers]


def _exact(comparison: _Comparison, kept: Sequence[_BatchResult]) -> NDArray[np.float64]:
    rows, columns = (
        [
            torch.from_numpy(np.concatenate(parts))
            for parts in zip(*(result.samples[side, comparison.tokens] for result in kept), strict=True)
        ]
        for side in (comparison.rows, comparison.columns)
    )
    matrix: NDArray[np.float64] = linear_cka(rows, None if comparison.rows == comparison.columns else columns).numpy()
    return matrix


def _similarity(
    models: Sequence[ObservedModel],
    settings: SimilaritySettings,
    comparison: _Comparison,
    matrix: NDArray[np.float64],
    images: int,
    patches: int,
) -> LayerSimilarity:
    row_model, column_model = models[comparison.rows], models[comparison.columns]
    rows, columns = (model.layers(settings.layers, comparison.tokens) for model in (row_model, column_model))
    undefined = np.isnan(matrix)
    if undefined.any():
        by_row, by_column = undefined.all(axis=1), undefined.all(axis=0)
        name = rows[int(by_row.argmax())] if by_row.any() else columns[int(by_column.argmax())]
        raise UserError(
            f"The {comparison.tokens} tokens of {name} hardly differ on these {images} images, so that no similarity"
            " can be estimated: take more images, or such that differ."
        )
    own = comparison.rows == comparison.columns
    return LayerSimilarity(
        title=row_model.title if own else f"{row_model.name} (rows) with {column_model.name} (columns)",
        row_model=row_model.name,
        column_model=column_model.name,
        rows=rows,
        columns=columns,
        tokens=comparison.tokens,
        estimator=comparison.estimator,
        images=images,
        samples=images * (patches if comparison.tokens == "patch" else 1),
        matrix=matrix,
    )
