"""The result of segmenting one image, or the frames of a video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade_clip.inference.class_scores import no_class
from cascade_clip.labels import LabelMap

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
    """Labels of one image at its original size.

    Example:
        >>> import numpy as np
        >>> labels, scores = np.array([[0, 1], [1, 1]], np.uint8), np.ones((2, 2), np.float32)
        >>> [(found.name, found.share) for found in Segmentation(labels, scores, ("road", "tree")).summary()]
        [('tree', 0.75), ('road', 0.25)]
    """

    labels: LabelMap
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
        shares, means = pixels / self.labels.size, score_sums / np.maximum(pixels, 1)
        return [
            ClassShare(self.classes[i], i, int(pixels[i]), share=float(shares[i]), mean_score=float(means[i]))
            for i in present
        ]

    def _totals(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Pixels and summed scores (K,) of each class, in blocks of rows because bincount makes its input wider."""
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


@dataclass(frozen=True, eq=False)
class SecondShares:
    """One second of a video.

    Attributes:
        second: From 0; the second that begins there.
        frames: How many of its frames were segmented.
        shares: (K,) float64 in [0, 1], mean share of each class over those frames.
    """

    second: int
    frames: int
    shares: NDArray[np.float64]


class FrameLabels:
    """Segments every Nth frame and keeps its labels for those that follow; holds one frame's result at a time."""

    def __init__(self, segment: Callable[[NDArray[np.uint8]], Segmentation], every: int = 1) -> None:
        """`segment` takes a frame (H, W, 3) uint8 RGB; `every` is N, at least 1."""
        self._segment = segment
        self._every = every
        self._seen = 0
        self._last: Segmentation | None = None
        self._totals: dict[int, tuple[int, NDArray[np.float64]]] = {}

    def __call__(self, frame: NDArray[np.uint8], seconds: float) -> Segmentation:
        """Labels of the next frame, shown at `seconds`; those of an earlier one where N is above 1."""
        if self._last is None or self._seen % self._every == 0:
            self._last = self._segment(frame)
            self._count(self._last, int(seconds))
        self._seen += 1
        return self._last

    @property
    def segmented(self) -> int:
        """How many frames were segmented."""
        return sum(frames for frames, _ in self._totals.values())

    def seconds(self) -> list[SecondShares]:
        """Shares of each second in which a frame was segmented, in order."""
        return [
            SecondShares(second, frames, total / frames) for second, (frames, total) in sorted(self._totals.items())
        ]

    def mean_shares(self) -> NDArray[np.float64]:
        """Share of each class (K,) over all segmented frames, at least one."""
        shares: NDArray[np.float64] = np.sum([total for _, total in self._totals.values()], axis=0) / self.segmented
        return shares

    def _count(self, segmentation: Segmentation, second: int) -> None:
        shares = np.zeros(len(segmentation.classes))
        for share in segmentation.summary():
            shares[share.index] = share.share
        frames, total = self._totals.get(second, (0, np.zeros_like(shares)))
        self._totals[second] = (frames + 1, total + shares)
