"""What validation scores, the scores that a model card shows, and the pictures of a run as it goes."""

import io
import logging
import math
import random
import time
from dataclasses import dataclass

from numpy import uint8
from numpy.typing import NDArray

from cascade_clip.data.catalogue import Split
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import reason_of
from cascade_clip.evaluation.scores import Scores
from cascade_clip.files import write_files
from cascade_clip.labels import LabelMap
from cascade_clip.report.curves import curves_figure
from cascade_clip.report.picture_sheets import picture_image, picture_sheet
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training.run_folder import RunFolder

logger = logging.getLogger(__name__)
QUALITY = 90
SECONDS_BETWEEN = 180.0
"""From pictures to those that are drawn because the last ones are old."""
MOST_OF_THE_TIME = 0.02
"""Share of the time that these may take."""


@dataclass(frozen=True)
class Validation:
    """What validation scores: the part "val" of a dataset by a split's classes, in `templates` (None: training's)."""

    split: Split
    dataset: PreparedDataset
    templates: str | None = None


def card_scores(scores: Scores | None) -> dict[str, float]:
    """The scores of a model card by their names, without those that do not exist."""
    if scores is None:
        return {}
    named = {
        "mIoU": scores.miou,
        "mIoU seen": scores.miou_seen,
        "mIoU unseen": scores.miou_unseen,
        "hIoU": scores.hiou,
        "pixel accuracy": scores.pixel_accuracy,
    }
    return {name: value for name, value in named.items() if not math.isnan(value)}


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

        The sheet shows image, label, prediction and errors of the run's fixed images; UserError for one that cannot be
        read.
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
            logger.warning('"%s" cannot be written: %s. Training goes on.', place, reason_of(error))


def shown_images(count: int, shown: int, seed: int) -> list[int]:
    """Indices of the images that a run shows, rising: the same ones for the same seed, drawn apart from all else."""
    return sorted(random.Random(seed).sample(range(count), min(shown, count)))
