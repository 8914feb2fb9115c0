"""Frames of a video under the colours of their classes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.drawing.overlay import LegendEntry, coloured_image, legend_beside
from cascade_clip.drawing.palette import PAPER, Colour
from cascade_clip.inference.segmentation import Segmentation


class VideoOverlay:
    """Paints frame after frame; the legend inside the picture changes once a second, so that it can be read."""

    MOST_ENTRIES = 6
    SMALLEST_SHARE = 0.005
    """Classes below this share of the frame are not worth a line that comes and goes."""
    FONT_SHARE, SMALLEST_FONT = 1 / 32, 10
    """Height of the legend's font as a share of the frame's, and the fewest pixels that can be read."""
    MOST_WIDTH, MOST_HEIGHT = 0.5, 0.8
    """Shares of the frame that the legend may cover; in a frame too small for that it is left out."""
    OPACITY = 0.85

    def __init__(self, colours: Sequence[Colour]) -> None:
        """Take a colour for each of the K classes."""
        self._colours = tuple(colours)
        self._second: int | None = None
        self._legend: Image.Image | None = None

    def paint(self, frame: NDArray[np.uint8], segmentation: Segmentation, seconds: float) -> NDArray[np.uint8]:
        """Lay colours and legend over a frame (H, W, 3) uint8 RGB that is shown at so many seconds; gives the same.

        The segmentation's labels (H, W) are those of the frame, or of one shortly before it.
        """
        height, width = frame.shape[:2]
        if int(seconds) != self._second:
            self._second, self._legend = int(seconds), self._drawn_legend(segmentation, width, height)
        picture = coloured_image(frame, segmentation.labels, self._colours, (width, height))
        if self._legend is not None:
            corner = (0, height - self._legend.height)
            below = picture.crop((*corner, self._legend.width, height))
            picture.paste(Image.blend(below, self._legend, self.OPACITY), corner)
        return np.asarray(picture)

    def _drawn_legend(self, segmentation: Segmentation, width: int, height: int) -> Image.Image | None:
        shares = [share for share in segmentation.summary()[: self.MOST_ENTRIES] if share.share >= self.SMALLEST_SHARE]
        entries = [LegendEntry(share.name, share.share, self._colours[share.index]) for share in shares]
        panel = legend_beside(entries, height, max(self.SMALLEST_FONT, round(height * self.FONT_SHARE)))
        used = np.flatnonzero((np.asarray(panel) != PAPER).any(axis=(1, 2)))
        if not used.size:
            return None
        # The empty paper below the last line goes, down to the margin that is above the first one.
        panel = panel.crop((0, 0, panel.width, min(panel.height, int(used[-1] + used[0]) + 1)))
        return panel if panel.width <= self.MOST_WIDTH * width and panel.height <= self.MOST_HEIGHT * height else None
