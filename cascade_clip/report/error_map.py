"""Where a prediction is right, where it is wrong, and what does not count."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.labels import IGNORED
from cascade_clip.report.figures import NOT_COUNTED, RIGHT, WRONG
from cascade_clip.report.overlay import Labels, coloured_image
from cascade_clip.report.palette import Colour

STATES: tuple[tuple[str, Colour], ...] = (("right", RIGHT), ("wrong", WRONG), ("ignored", NOT_COUNTED))
"""What a pixel can be, and its colour."""


def error_states(label: NDArray[np.uint8], predicted: Labels) -> NDArray[np.uint8]:
    """Compare two label maps.

    Args:
        label: (H, W) true class, 255 = ignored.
        predicted: (H, W) predicted class.

    Returns:
        (H, W) indices into `STATES`.
    """
    states: NDArray[np.uint8] = (label != predicted).astype(np.uint8)
    states[label == IGNORED] = 2
    return states


def error_map(
    image: NDArray[np.uint8], label: NDArray[np.uint8], predicted: Labels, size: tuple[int, int]
) -> Image.Image:
    """Lay right, wrong and ignored pixels over an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) true class, 255 = ignored.
        predicted: (H, W) predicted class.
        size: Width and height of the picture in pixels.

    Returns:
        An RGB picture of that size.
    """
    return coloured_image(image, error_states(label, predicted), [colour for _, colour in STATES], size)
