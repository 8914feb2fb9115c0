"""The labels of a video's frames, and what they come to by the second."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade_clip.inference.segmentation import Segmentation


class SecondShares(NamedTuple):
    """One second of a video."""

    second: int
    """From 0; the second that begins there."""
    frames: int
    """How many of its frames were segmented."""
    shares: NDArray[np.float64]
    """(K,) in [0, 1], mean share of each class over those frames."""


class FrameLabels:
    """Segments every Nth frame and keeps its labels for those that follow; holds one frame's result at a time."""

    def __init__(
        self,
        segment: Callable[[NDArray[np.uint8]], Segmentation],
        every: int = 1,
        segmented: Callable[[int, Segmentation], None] | None = None,
    ) -> None:
        """Take what segments a frame (H, W, 3) uint8 RGB.

        `segmented` is called with the number of each frame that was segmented, from 0, and its result.
        """
        self._segment = segment
        self._every = every
        self._report = segmented
        self._seen = 0
        self._last: Segmentation | None = None
        self._totals: dict[int, tuple[int, NDArray[np.float64]]] = {}

    def __call__(self, frame: NDArray[np.uint8], seconds: float) -> Segmentation:
        """Labels of the next frame, shown at `seconds`; those of an earlier one where N is above 1."""
        if self._last is None or self._seen % self._every == 0:
            self._last = self._segment(frame)
            self._count(self._last, int(seconds))
            if self._report is not None:
                self._report(self._seen, self._last)
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
        return np.sum([total for _, total in self._totals.values()], axis=0) / self.segmented

    def _count(self, segmentation: Segmentation, second: int) -> None:
        shares = np.zeros(len(segmentation.classes))
        for share in segmentation.summary():
            shares[share.index] = share.share
        frames, total = self._totals.get(second, (0, np.zeros_like(shares)))
        self._totals[second] = (frames + 1, total + shares)
