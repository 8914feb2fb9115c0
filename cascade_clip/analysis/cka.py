"""Linear centred kernel alignment (CKA) of layers: exact, and unbiased over batches in constant memory.

All forms use one product of two centred feature matrices X (n, p) and Y (n, q), which is computed in feature form or in
Gram form: ‖XᵀY‖²_F = ⟨XXᵀ, YYᵀ⟩_F.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Form = Literal["auto", "feature", "gram"]

GRAM_SAMPLES = 2
"""Most samples per channel for which `auto` takes Gram matrices: they are small then, and all pairs one product."""
FEWEST_SAMPLES = 4
"""Fewest samples for which HSIC_1 is defined."""
ROUNDING = 1e-6
"""Relative spread below which features count as equal: networks compute in single precision."""


def linear_cka(rows: Sequence[Tensor], columns: Sequence[Tensor] | None = None, *, form: Form = "auto") -> Tensor:
    """Linear CKA ‖YᵀX‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F) of centred features (Kornblith et al. 2019, Equations 3 to 5).

    With few samples per channel it is biased upwards: random features of p channels score about p / (n + p).

    Args:
        rows: R layers (n, p) of the same n samples; p may differ from layer to layer.
        columns: C layers (n, q) of the same samples. None: the rows themselves.
        form: `feature` multiplies channels, `gram` samples; both give the same, `auto` takes the cheaper one.

    Returns:
        (R, C) float64 in [0, 1]; NaN where all samples of a layer are equal.
    """
    left = [_centred(layer) for layer in rows]
    right = left if columns is None else [_centred(layer) for layer in columns]
    products = _squared_products(left, right, form)
    left_own = products.diagonal() if columns is None else _own_products(left, form)
    right_own = products.diagonal() if columns is None else _own_products(right, form)
    return products / (left_own[:, None] * right_own).sqrt()


def hsic1(rows: Sequence[Tensor], columns: Sequence[Tensor] | None = None, *, form: Form = "auto") -> Tensor:
    """HSIC_1, the unbiased estimate of the Hilbert-Schmidt independence criterion, linear kernel (Song et al. 2012).

    With K and L the Gram matrices without their diagonals it is (tr(KL) + 1ᵀK1·1ᵀL1 / ((n-1)(n-2)) - 2·1ᵀKL1 / (n-2)) /
    (n(n-3)). Moving the features does not change it, so they are centred first; then K1 is minus the removed diagonal,
    and only it and ‖XᵀY‖²_F have to be computed.

    Takes R and C layers as `linear_cka` does, of n >= 4 samples (ValueError: fewer). Gives (R, C) float64: around 0 for
    independent layers, and then as often below as above.
    """
    samples = len(rows[0])
    if samples < FEWEST_SAMPLES:
        raise ValueError(f"HSIC_1 needs {FEWEST_SAMPLES} samples, {samples} were given")
    left = [_centred(layer) for layer in rows]
    right = left if columns is None else [_centred(layer) for layer in columns]
    left_diagonal, right_diagonal = (torch.stack([x.square().sum(1) for x in side]) for side in (left, right))
    outside_diagonal = _squared_products(left, right, form) - left_diagonal @ right_diagonal.T
    totals = left_diagonal.sum(1)[:, None] * right_diagonal.sum(1) / ((samples - 1) * (samples - 2))
    crossed = 2 / (samples - 2) * (left_diagonal @ right_diagonal.T)
    return (outside_diagonal + totals - crossed) / (samples * (samples - 3))


@dataclass(frozen=True)
class BatchHsic:
    """HSIC_1 of one batch, float64: rows with columns (R, C), and each layer with itself, (R,) and (C,)."""

    cross: NDArray[np.float64]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]


def batch_hsic(rows: Sequence[Tensor], columns: Sequence[Tensor] | None = None) -> BatchHsic:
    """Compute the contribution of a batch to `MinibatchCka`; arguments and errors are those of `hsic1`."""
    cross = hsic1(rows, columns).cpu().numpy()
    if columns is None:
        return BatchHsic(cross, cross.diagonal().copy(), cross.diagonal().copy())
    own = [np.array([float(hsic1([layer])) for layer in side]) for side in (rows, columns)]
    return BatchHsic(cross, own[0], own[1])


class MinibatchCka:
    """CKA of R with C layers over any number of batches, in memory that does not grow (Nguyen et al. 2021, Equation 4).

    mean HSIC_1(K, L) / sqrt(mean HSIC_1(K, K) · mean HSIC_1(L, L)), the means taken over batches. As each HSIC_1 is
    unbiased, the size of the batches decides the variance of the result, not its mean.
    """

    def __init__(self, rows: int, columns: int) -> None:
        """Start without any batch."""
        self._cross = np.zeros((rows, columns))
        self._rows, self._columns = np.zeros(rows), np.zeros(columns)

    def add(self, batch: BatchHsic) -> None:
        """Add a batch; all batches have the same weight. The last bits of the sums depend on the order."""
        self._cross += batch.cross
        self._rows += batch.rows
        self._columns += batch.columns

    def matrix(self) -> NDArray[np.float64]:
        """(R, C) float64, in [0, 1] up to the estimator's variance; NaN where a layer does not vary in any batch."""
        scale = np.maximum(self._rows, 0)[:, None] * np.maximum(self._columns, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(scale > 0, self._cross / np.sqrt(scale), np.nan)


def _centred(features: Tensor) -> Tensor:
    """Centred in double precision; features that differ by no more than single precision's rounding become 0."""
    features = features.double()
    centred = features - features.mean(0)
    noise = centred.norm() <= ROUNDING * features.norm()
    return torch.where(noise, torch.zeros_like(centred), centred)


def _squared_products(rows: Sequence[Tensor], columns: Sequence[Tensor], form: Form) -> Tensor:
    """‖XᵀY‖²_F of every pair, (R, C) float64."""
    if form == "auto":
        form = "gram" if len(rows[0]) <= GRAM_SAMPLES * max(x.shape[1] for x in (*rows, *columns)) else "feature"
    if form == "gram":
        left = torch.stack([(x @ x.T).flatten() for x in rows])
        right = left if columns is rows else torch.stack([(y @ y.T).flatten() for y in columns])
        return left @ right.T
    products = rows[0].new_zeros(len(rows), len(columns))
    for i, x in enumerate(rows):
        for j, y in enumerate(columns):
            known = columns is rows and j < i
            products[i, j] = products[j, i] if known else (x.T @ y).square().sum()
    return products


def _own_products(layers: Sequence[Tensor], form: Form) -> Tensor:
    """‖XᵀX‖²_F of every layer."""
    return torch.cat([_squared_products([x], [x], form)[0] for x in layers])
