"""How alike the layers of models are: matrices of linear CKA over any number of images and processes (Figure 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascade_clip.analysis.cka import FEWEST_SAMPLES, BatchHsic, MinibatchCka, batch_hsic, linear_cka
from cascade_clip.analysis.layer_tokens import IMAGES_AT_ONCE, ImageSet, LayerTokens, batch_tokens
from cascade_clip.analysis.observed_model import LayerKind, ObservedModel, TokenKind
from cascade_clip.errors import UserError, counted
from cascade_clip.progress import Progress
from cascade_clip.runtime import check_grid, check_memory

Estimator = Literal["exact", "unbiased"]

EXACT_SAMPLES = 8192
"""Most samples for which `auto` computes the exact form, which holds all of them."""
SAMPLES_PER_CHANNEL = 10
"""With fewer, the exact form is visibly biased and `auto` takes the unbiased estimator."""
MOST_EXACT_VALUES = 2**28
"""Most values that the exact form may hold: 2 GiB in double precision."""

_BLOCK = "block "


@dataclass(frozen=True)
class LayerSimilarity:
    """Linear CKA between layers, as one matrix.

    The layers of the models are named "block 1", "tap 6", "stage 6-8" and so on; `tokens` is "patch" or "class",
    `estimator` "exact" or "unbiased", `samples` the number of tokens, `matrix` (R, C) float64.
    """

    title: str
    row_model: str
    column_model: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    tokens: str
    estimator: str
    images: int
    samples: int
    matrix: NDArray[np.float64]

    @property
    def basis(self) -> str:
        """Number and kind of tokens, images and estimator, in words."""
        return f"{self.samples:,} {self.tokens} tokens of {counted(self.images, 'image')}, {self.estimator}"

    @property
    def last_block(self) -> int | None:
        """Row of the deepest block, which the paper frames. None: no row is a block."""
        return max((i for i, name in enumerate(self.rows) if name.startswith(_BLOCK)), default=None)

    @property
    def neighbours(self) -> tuple[tuple[int, int], ...]:
        """Cells (row, column) of a block and the next deeper one, the row being the deeper."""
        columns = {name: index for index, name in enumerate(self.columns)}
        blocks = ((row, name) for row, name in enumerate(self.rows) if name.startswith(_BLOCK))
        cells = ((row, columns.get(f"{_BLOCK}{int(name.removeprefix(_BLOCK)) - 1}")) for row, name in blocks)
        return tuple((row, column) for row, column in cells if column is not None)

    @property
    def mean_of_neighbours(self) -> float:
        """Mean similarity of a block with the next one; NaN where there are no two."""
        return _mean([float(self.matrix[cell]) for cell in self.neighbours])

    @property
    def mean_of_last_row(self) -> float:
        """Mean similarity of the deepest block with all earlier ones; NaN where there is none."""
        if self.last_block is None:
            return math.nan
        row = zip(self.columns, self.matrix[self.last_block], strict=True)
        return _mean([float(v) for name, v in row if name.startswith(_BLOCK) and name != self.rows[self.last_block]])

    def to_dict(self) -> dict[str, Any]:
        """All attributes for JSON, the matrix as nested lists."""
        return {**vars(self), "matrix": self.matrix.tolist()}


@dataclass(frozen=True)
class SimilaritySettings:
    """Which layers are compared, and on how much of the images.

    Attributes:
        layers: Blocks (raw tokens after each), taps (the head's inputs: after norm and projection, unit vectors),
            stages (the outputs of the aggregations).
        tokens: Patch tokens, class token or both.
        estimator: `exact`, `unbiased`, or `auto`: exact where all samples can be held and there are at least ten per
            channel.
        side: Side of the middle square in pixels. None: the model's default.
        patches: Patch tokens drawn of each image; 0: all.
        batch: Images per batch of the unbiased estimator, at least, 4 or more; the remainder is spread over the
            batches.
        seed: Decides which patches are drawn.
        cross: Also compare the model's layers with those of the other model.
    """

    layers: tuple[LayerKind, ...] = ("blocks",)
    tokens: tuple[TokenKind, ...] = ("patch",)
    estimator: Literal["auto", "exact", "unbiased"] = "auto"
    side: int | None = None
    patches: int = 16
    batch: int = 64
    seed: int = 0
    cross: bool = False


@dataclass(frozen=True)
class ProcessGroup:
    """One process, number `rank` of `world`; `gather` is called in each with a value and gives those of all by rank."""

    rank: int = 0
    world: int = 1
    gather: Callable[[Any], list[Any]] = field(default=lambda own: [own])


def layer_similarities(
    model: ObservedModel,
    images: ImageSet,
    settings: SimilaritySettings,
    *,
    other: ObservedModel | None = None,
    processes: ProcessGroup | None = None,
    progress: Progress | None = None,
) -> list[LayerSimilarity]:
    """Compute the CKA matrices of a model and, beside it, of another one, from the middle square of each image.

    Batches depend on the images alone and are counted in their order, so that any number of processes gives the same
    matrices (to the last bit, if they compute with equally many threads). The unbiased estimator keeps nothing of a
    batch but its HSIC values. The other model's images are resized so that it has the same grid of patches.

    Gives for each kind of tokens the other model's matrix, the model's, and the crossed one where asked for (rows: the
    model's layers, columns: the other's); nothing in other processes than the first. Raises UserError: layers that no
    model has, too few images, too many for the exact form, an image that cannot be read.
    """
    processes = processes or ProcessGroup()
    models = (model,) if other is None else (model, other)
    grid = _grid(models, images, settings)
    patches = min(settings.patches or grid**2, grid**2)
    comparisons = [c for tokens in settings.tokens for c in _comparisons(models, settings, tokens, images, patches)]
    batches = np.array_split(np.arange(images.count), max(1, images.count // settings.batch))
    drawn = {"grid": grid, "patches": patches, "seed": settings.seed}
    for start in range(0, len(batches), processes.world):
        own = None
        if start + processes.rank < len(batches):
            mine = batches[start + processes.rank]
            batch = batch_tokens(models, images, mine, **drawn, layers=settings.layers, tokens=settings.tokens)
            own = [comparison.reduce(batch) for comparison in comparisons]
        for result in processes.gather(own):
            for comparison, values in zip(comparisons, result or [], strict=False):
                # The exact form's samples are needed in the first process alone.
                if processes.rank == 0:
                    comparison.add(values)
        if progress is not None:
            done = min(start + processes.world, len(batches))
            progress(int(batches[done - 1][-1]) + 1, images.count, f"batch {done} of {len(batches)}")
    return [c.similarity(images.count) for c in comparisons] if processes.rank == 0 else []


def _grid(models: Sequence[ObservedModel], images: ImageSet, settings: SimilaritySettings) -> int:
    """Patches along a side of the square, once a batch and the images that are encoded at once fit into memory."""
    side, patch = settings.side or models[0].side, models[0].encoder.patch_size
    if side < patch:
        raise UserError(f"A square of {side} pixels is smaller than a patch of {patch}: give a larger --size.")
    batch, grid = min(images.count, settings.batch), side // patch
    pixels = sum((grid * model.encoder.patch_size) ** 2 for model in models)
    check_memory(
        3 * pixels * (batch + 4 * min(batch, IMAGES_AT_ONCE)),
        f"A batch of {batch:,} images of {side:,} x {side:,} pixels",
        "give a smaller --size or --batch",
    )
    check_grid(side, patch, "A square", "--size ")
    return grid


def _comparisons(
    models: Sequence[ObservedModel], settings: SimilaritySettings, tokens: TokenKind, images: ImageSet, patches: int
) -> Iterator[_Comparison]:
    """The matrices of one kind of tokens; a model without such layers has none."""
    names = [model.layers(settings.layers, tokens) for model in models]
    if not names[0]:
        raise UserError(
            f'"{models[0].name}" has no {" or ".join(settings.layers)} of {tokens} tokens: CLIP as it is and the class'
            " token have only blocks (--layers blocks)."
        )
    samples = images.count * (patches if tokens == "patch" else 1)
    if samples < FEWEST_SAMPLES:
        raise UserError(
            f"From {counted(samples, f'{tokens} token')} of {counted(images.count, 'image')} no similarity can be"
            f" estimated: at least {FEWEST_SAMPLES} are needed."
        )
    estimator = _estimator(models, names, samples, settings)
    pairs = [(number, number) for number in reversed(range(len(models))) if names[number]]
    if settings.cross and len(models) > 1 and names[1]:
        pairs.append((0, 1))
    for row, column in pairs:
        sides = (models[row], models[column])
        yield _Comparison(tokens, (row, column), sides, (names[row], names[column]), estimator, samples)


def _estimator(
    models: Sequence[ObservedModel], names: Sequence[Sequence[str]], samples: int, settings: SimilaritySettings
) -> Estimator:
    values = samples * sum(len(layers) * model.most_channels for layers, model in zip(names, models, strict=True))
    if settings.estimator == "exact" and values > MOST_EXACT_VALUES:
        raise UserError(
            f"The exact form would hold {samples:,} tokens of {sum(map(len, names))} layers,"
            f" {values * 8 / 2**30:.1f} GiB: take --estimator unbiased, or fewer images (--limit) or patches."
        )
    if settings.estimator != "auto":
        return settings.estimator
    fewest = SAMPLES_PER_CHANNEL * max(model.most_channels for model in models)
    return "exact" if fewest <= samples <= EXACT_SAMPLES and values <= MOST_EXACT_VALUES else "unbiased"


@dataclass
class _Comparison:
    """One matrix in progress; `sides` are the numbers of the models whose layers are its rows and columns."""

    tokens: TokenKind
    sides: tuple[int, int]
    models: tuple[ObservedModel, ObservedModel]
    names: tuple[tuple[str, ...], tuple[str, ...]]
    estimator: Estimator
    samples: int

    def __post_init__(self) -> None:
        self._mean = MinibatchCka(len(self.names[0]), len(self.names[1]))
        self._own = self.sides[0] == self.sides[1]
        self._held: list[tuple[list[NDArray[np.float32]], ...]] = []

    def reduce(self, batch: Sequence[LayerTokens]) -> Any:
        """Reduce a batch to what leaves its process: HSIC, or for the exact form the samples of rows and columns."""
        layers = [batch[side][self.tokens] for side in self.sides[: 1 if self._own else 2]]
        if self.estimator == "unbiased":
            return batch_hsic(*(_doubled(side) for side in layers))
        return tuple([layer.cpu().numpy() for layer in side] for side in layers)

    def add(self, reduced: Any) -> None:
        """Count the next batch."""
        if isinstance(reduced, BatchHsic):
            self._mean.add(reduced)
        else:
            self._held.append(reduced)

    def similarity(self, images: int) -> LayerSimilarity:
        """The matrix, once all batches are counted; raises UserError for a layer whose tokens do not vary."""
        matrix = self._mean.matrix() if self.estimator == "unbiased" else self._exact()
        (rows, columns), undefined = self.names, np.isnan(matrix)
        if undefined.any():
            by_row, by_column = undefined.all(axis=1), undefined.all(axis=0)
            name = rows[int(by_row.argmax())] if by_row.any() else columns[int(by_column.argmax())]
            raise UserError(
                f"The {self.tokens} tokens of {name} hardly differ on these {images} images, so that no similarity can"
                " be estimated: take more images, or more varied ones."
            )
        first, second = self.models
        title = first.title if self._own else f"{first.name} (rows) with {second.name} (columns)"
        return LayerSimilarity(
            title, first.name, second.name, rows, columns, self.tokens, self.estimator, images, self.samples, matrix
        )

    def _exact(self) -> NDArray[np.float64]:
        held = (zip(*batches, strict=True) for batches in zip(*self._held, strict=True))
        sides = [[torch.from_numpy(np.concatenate(parts)) for parts in layers] for layers in held]
        return linear_cka(*sides).numpy()


def _doubled(layers: Sequence[Tensor]) -> list[Tensor]:
    """In double precision, on the CPU where the device has none."""
    return [(layer.cpu() if layer.device.type == "mps" else layer).double() for layer in layers]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
