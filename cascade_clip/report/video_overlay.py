"""Frames of a video under their classes' colours, with a legend inside the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.report.legend import PAPER, LegendEntry, legend_beside
from cascade_clip.report.overlay import coloured_image
from cascade_clip.report.palette import Colour

MOST_ENTRIES = 6
SMALLEST_SHARE = 0.005
"""Classes below this share of the frame are not worth a line that comes and goes."""
FONT_SHARE, SMALLEST_FONT = 1 / 32, 10
"""Height of the legend's font as a share of the frame's, and the fewest pixels that can be read."""
MOST_WIDTH, MOST_HEIGHT = 0.5, 0.8
"""Shares of the frame that the legend may cover; in a frame too small for that it is left out."""
OPACITY = 0.85


class VideoOverlay:
    """Paints frame after frame; the legend changes once a second, so that it can be read."""

    def __init__(self, colours: Sequence[Colour]) -> None:
        """Take a colour for each of the K classes."""
        self._colours = tuple(colours)
        self._second: int | None = None
        self._legend: Image.Image | None = None

    def paint(self, frame: NDArray[np.uint8], segmentation: Segmentation, seconds: float) -> NDArray[np.uint8]:
        """Lay colours and legend over a frame (H, W, 3) uint8 RGB of the same size as the labels.

        Args:
            frame: The frame.
            segmentation: Its labels, or those of a frame shortly before it.
            seconds: When it is shown.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        height, width = frame.shape[:2]
        if int(seconds) != self._second:
            self._second, self._legend = int(seconds), self._drawn_legend(segmentation, width, height)
        picture = coloured_image(frame, segmentation.labels, self._colours, (width, height))
        if self._legend is not None:
            corner = (0, height - self._legend.height)
            below = picture.crop((*corner, self._legend.width, height))
            picture.paste(Image.blend(below, self._legend, OPACITY), corner)
        return np.asarray(picture)

    def _drawn_legend(self, segmentation: Segmentation, width: int, height: int) -> Image.Image | None:
        shares = [share for share in segmentation.summary() if share.share >= SMALLEST_SHARE]
        entries = [LegendEntry(share.name, share.share, self._colours[share.index]) for share in shares[:MOST_ENTRIES]]
        if not entries:
            return None
        panel = _trimmed(legend_beside(entries, height, max(SMALLEST_FONT, round(height * FONT_SHARE))))
        return panel if panel.width <= MOST_WIDTH * width and panel.height <= MOST_HEIGHT * height else None


def _trimmed(panel: Image.Image) -> Image.Image:
    """Take the empty paper below the last line away, down to the margin that is above the first one."""
    used = np.flatnonzero((np.asarray(panel) != PAPER).any(axis=(1, 2)))
    return panel.crop((0, 0, panel.width, min(panel.height, int(used[-1] + used[0]) + 1)))
