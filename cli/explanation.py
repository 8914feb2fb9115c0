"""`predict --explain`: what each stage sees of a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cascade_clip.analysis import stage_masks
from cascade_clip.errors import UserError, closest
from cascade_clip.inference import predictor as predictors
from cascade_clip.inference import segmentation as segmentations
from cascade_clip.inference import vocabulary as vocabularies
from cascade_clip.report import map_grids

LARGEST_SHOWN = 4
"""So many classes are explained where none are named."""


def check_explained(wanted: Sequence[str], names: Sequence[str]) -> None:
    """Check that the classes to explain are looked for; raises UserError where one is not."""
    for name in wanted:
        if name not in names:
            raise UserError(f'"{name}" of --explain-classes is not looked for.{closest(name, names)}')


class Explainer:
    """Draws the masks of the stages, image after image."""

    def __init__(
        self, predictor: predictors.Predictor, vocabulary: vocabularies.Vocabulary, wanted: Sequence[str]
    ) -> None:
        """Take the classes to explain, see `check_explained`; none: the largest that are found in each image."""
        check_explained(wanted, vocabulary.names)
        self._predictor, self._text = predictor, vocabulary.text
        self._wanted = [vocabulary.names.index(name) for name in wanted]

    def draw(self, image: NDArray[np.uint8], segmentation: segmentations.Segmentation) -> bytes | None:
        """Draw a PNG of the predictor's image; None where no class is asked for and none was found."""
        shown = self._wanted or [share.index for share in segmentation.summary()[:LARGEST_SHOWN]]
        if not shown:
            return None
        masks = stage_masks.stage_masks(self._predictor, self._text[shown])
        classes = [
            map_grids.ExplainedClass(segmentation.classes[i], segmentation.colours[i], segmentation.labels == i)
            for i in shown
        ]
        return map_grids.render_stage_grid(image, classes, masks)
