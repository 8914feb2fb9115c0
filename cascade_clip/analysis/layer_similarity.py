"""How alike the layers of models are: a matrix of CKA with the names of what it compares (paper, Figure 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = "block "


@dataclass(frozen=True)
class LayerSimilarity:
    """Linear CKA between layers, as one matrix.

    Attributes:
        title: What the matrix shows, in a few words.
        row_model: Model whose layers are the rows.
        column_model: Model whose layers are the columns.
        rows: Names of the R rows: "block 1", "tap 6", "stage 6-8" and so on.
        columns: Names of the C columns.
        tokens: "patch" or "class".
        estimator: Which form was computed: "exact" or "unbiased".
        images: How many images were looked at.
        samples: How many tokens.
        matrix: (R, C) float64.
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
        """What was looked at, in words."""
        return f"{self.samples:,} {self.tokens} tokens of {self.images:,} images, {self.estimator}"

    @property
    def last_block(self) -> int | None:
        """Row of the deepest block, which the paper frames; none where no row is a block."""
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
        """Mean similarity of a block with the next one; NaN where no two are there."""
        return _mean([float(self.matrix[cell]) for cell in self.neighbours])

    @property
    def mean_of_last_row(self) -> float:
        """Mean similarity of the deepest block with all earlier ones; NaN where it is not there."""
        if self.last_block is None:
            return math.nan
        row = zip(self.columns, self.matrix[self.last_block], strict=True)
        return _mean([float(v) for name, v in row if name.startswith(_BLOCK) and name != self.rows[self.last_block]])

    def to_dict(self) -> dict[str, Any]:
        """What JSON holds of it: every attribute, the matrix as nested lists."""
        return {**vars(self), "matrix": self.matrix.tolist()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
