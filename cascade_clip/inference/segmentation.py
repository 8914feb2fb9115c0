"""The result of segmenting one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade_clip.inference.scores import no_class

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class ClassShare:
    """How much of an image one class takes."""

    name: str
    index: int
    pixels: int
    share: float
    """Fraction of all pixels of the image, in (0, 1]."""
    mean_score: float
    """Mean of the winning score over the pixels of the class."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of one image at its original size."""

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    """(H, W) index into `classes`; `no_class` where nothing reached the threshold. uint16 above 255 classes."""
    scores: NDArray[np.float32]
    """(H, W) score of the winning class, after the bias on seen classes."""
    classes: tuple[str, ...]
    """The K class names, in the order of the indices."""

    @property
    def no_class(self) -> int:
        """The label that means none of the classes: 255, or 65535 above 255 classes."""
        return no_class(len(self.classes))

    def summary(self) -> list[ClassShare]:
        """The classes that are present, the largest first; pixels of no class are left out."""
        pixels, score_sums = self._totals()
        present = sorted(np.flatnonzero(pixels).tolist(), key=lambda index: (-pixels[index], index))
        return [
            ClassShare(
                name=self.classes[index],
                index=index,
                pixels=int(pixels[index]),
                share=float(pixels[index] / self.labels.size),
                mean_score=float(score_sums[index] / pixels[index]),
            )
            for index in present
        ]

    def _totals(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Pixels and summed scores (K,) of each class, in blocks of rows because bincount widens what it is given."""
        classes = len(self.classes)
        pixels = np.zeros(classes, dtype=np.int64)
        score_sums = np.zeros(classes, dtype=np.float64)
        for top in range(0, len(self.labels), ROWS_AT_ONCE):
            labels = self.labels[top : top + ROWS_AT_ONCE]
            kept = labels != self.no_class
            indices = labels[kept]
            pixels += np.bincount(indices, minlength=classes)
            score_sums += np.bincount(indices, weights=self.scores[top : top + ROWS_AT_ONCE][kept], minlength=classes)
        return pixels, score_sums
