"""The bundled models know drawn scenes only: other images are told from these, and warned of once."""

import logging

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.catalogue import Split
from cascade_clip.model.clip.load import BUNDLED

_SIDES = range(48, 257)
_SIDE, _LEAST_CHROMA = 16, 70
"""Of 4,000 scenes shrunk to 16 x 16 pixels, all but one have a pixel whose channels differ by 70 or more: their things
are strongly coloured. Of small squares cut out of street photographs, half have none."""

OTHER_IMAGE = (
    "The bundled CLIP has seen drawn scenes only, and this is another kind of image: expect no sensible masks. For"
    " photographs take another model, for example dense:ViT-B-16-quickgelu:openai."
)
"""What is said of an image that is no drawn scene."""

log = logging.getLogger(__name__)


def may_be_drawn(image: NDArray[np.uint8]) -> bool:
    """Whether an image (H, W, 3) uint8 RGB can be a scene of `shapes`: a square of 48 to 256 pixels, strongly coloured.

    True of scenes and False of photographs as they are taken; a small, square, colourful one passes.
    """
    height, width = image.shape[:2]
    if height != width or height not in _SIDES:
        return False
    small = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX)).astype(int)
    return int(np.ptp(small, axis=-1).max()) >= _LEAST_CHROMA


class DrawnScenesOnly:
    """Warns once, in the log, where a model that knows drawn scenes only is given another image."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, image: NDArray[np.uint8]) -> bool:
        """Look at an image (H, W, 3) uint8 RGB; returns whether a warning was logged, now or before."""
        if not self._told and not may_be_drawn(image):
            self._told = True
            log.warning(OTHER_IMAGE)
        return self._told


def scene_check(architecture: str, split: Split | None) -> DrawnScenesOnly | None:
    """The check of a model's images; None where its CLIP is not the bundled one, or `split` is not of drawn scenes."""
    trained_on_others = split is not None and split.dataset not in {"shapes", "shapes-things"}
    return DrawnScenesOnly() if architecture == BUNDLED and not trained_on_others else None
