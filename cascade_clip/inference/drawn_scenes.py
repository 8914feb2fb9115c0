"""The bundled models know drawn scenes only: other images are told from these, and warned of once."""

from __future__ import annotations

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
_MOST_SMOOTH = 0.2
"""Each channel of a scene has grain of its own: of 2,150 scenes none lacks it in more than 15 % of the pixels. Of 1,200
squares cut out of street photographs or made smaller, with colours painted in, all do in 28 % or more."""

log = logging.getLogger(__name__)


def may_be_drawn(image: NDArray[np.uint8]) -> bool:
    """Whether an image (H, W, 3) uint8 RGB can be a scene of `shapes`.

    Such a scene is a square of 48 to 256 pixels, strongly coloured, with grain. False of photographs and of other
    images without noise, and of scenes that were saved as JPEG or resized, which lose the grain.
    """
    height, width = image.shape[:2]
    if height != width or height not in _SIDES:
        return False
    small = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX)).astype(int)
    return int(np.ptp(small, axis=-1).max()) >= _LEAST_CHROMA and _smooth_share(image) <= _MOST_SMOOTH


def _smooth_share(image: NDArray[np.uint8]) -> float:
    """Share of the pixels, white and black ones left out, where red and blue follow green without noise: 0 to 1."""
    differences = np.diff(image.astype(int), axis=-1)
    noise = np.abs(np.diff(np.diff(differences, axis=0), axis=1)).max(axis=-1)
    exposed = np.all((image > 2) & (image < 253), axis=-1)[1:, 1:]
    return float(np.mean(noise[exposed] < 2)) if np.any(exposed) else 1.0


class DrawnScenesOnly:
    """Warns once, in the log, where a model that knows drawn scenes only is given another image."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, image: NDArray[np.uint8]) -> bool:
        """Look at an image (H, W, 3) uint8 RGB; returns whether a warning was logged, now or before."""
        if not self._told and not may_be_drawn(image):
            self._told = True
            log.warning(
                "The bundled CLIP has seen drawn scenes only, and this does not look like one: expect no sensible "
                "masks. For photographs take another model, for example dense:ViT-B-16-quickgelu:openai."
            )
        return self._told


def scene_check(architecture: str, split: Split | None) -> DrawnScenesOnly | None:
    """The check of a model's images; None where its CLIP is not the bundled one, or it was trained on other images.

    Args:
        architecture: Name of the model's CLIP.
        split: What the model was trained on; None: nothing, it is training-free.
    """
    trained_on_others = split is not None and split.dataset not in {"shapes", "shapes-things"}
    return DrawnScenesOnly() if architecture == BUNDLED and not trained_on_others else None
