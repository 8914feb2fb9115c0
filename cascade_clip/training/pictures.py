"""Pictures of a run as it goes: curves of its log, and what it predicts on a few fixed validation images."""

from __future__ import annotations

import io
import logging
import random
import time

from numpy import uint8
from numpy.typing import NDArray

from cascade_clip.files import write_files
from cascade_clip.labels import LabelMap
from cascade_clip.report.curves import curves_figure
from cascade_clip.report.picture_sheets import picture_image, picture_sheet
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training.run_folder import RunFolder
from cascade_clip.training.validation import Validation

logger = logging.getLogger(__name__)
QUALITY = 90
SECONDS_BETWEEN = 180.0
"""From pictures to those that are drawn because the last ones are old."""
MOST_OF_THE_TIME = 0.02
"""Share of the time that these may take."""


class RunPictures:
    """Draws the pictures of a run, and knows when the last ones are old.

    They change no weight and no random draw. A picture that cannot be written is no reason to stop a run: it is logged.
    """

    def __init__(self, run: RunFolder, model: CascadeCLIP, validation: Validation, title: str) -> None:
        """Start the clock; what is shown is the part "val" of the validation, `title` stands above the curves."""
        self.run, self.model, self.validation, self.title = run, model, validation, title
        self._old_at = time.monotonic() + SECONDS_BETWEEN

    def are_old(self) -> bool:
        """Whether pictures are due by the clock alone."""
        return time.monotonic() >= self._old_at

    def draw(self, name: str | None) -> None:
        """Redraw the curves and, where there are validation images, the sheet of that name (None: no sheet).

        The sheet shows image, label, prediction and errors of the run's fixed images.

        Raises:
            UserError: An image or a label cannot be read.
        """
        start = time.monotonic()
        self._write("curves.png", curves_figure(self.run.log_entries(), title=self.title))
        if name is not None and self.validation.dataset.count("val"):
            self._write(name, self._sheet())
        now = time.monotonic()
        self._old_at = now + max(SECONDS_BETWEEN, (now - start) / MOST_OF_THE_TIME)

    def _sheet(self) -> bytes:
        """A JPEG, drawn with the network in evaluation mode."""
        recipe, split, dataset = self.model.recipe, self.validation.split, self.validation.dataset
        vocabulary = self.model.vocabulary(split=split, templates=self.validation.templates)
        predictor = self.model.predictor()

        def predict(image: NDArray[uint8]) -> LabelMap:
            return predictor.segment_image(image, vocabulary).labels

        chosen = shown_images(dataset.count("val"), recipe.train.pictures, recipe.seed)
        self.model.network.eval()
        shown = [picture_image(dataset, index, vocabulary.names, split.colours, predict) for index in chosen]
        self.model.network.train()
        unseen = {name for name, seen in zip(vocabulary.names, vocabulary.seen.tolist(), strict=True) if not seen}
        encoded = io.BytesIO()
        picture_sheet(shown, unseen).save(encoded, "JPEG", quality=QUALITY)
        return encoded.getvalue()

    def _write(self, name: str, content: bytes) -> None:
        place = self.run.pictures / name
        try:
            write_files({place: content})
        except OSError as error:
            logger.warning('"%s" cannot be written: %s. Training goes on.', place, error.strerror or error)


def shown_images(count: int, shown: int, seed: int) -> list[int]:
    """Indices of the images that a run shows, rising: the same ones for the same seed, drawn apart from all else."""
    return sorted(random.Random(seed).sample(range(count), min(shown, count)))
