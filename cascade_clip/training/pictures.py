"""Pictures of a run as it goes: curves of its log, and what it predicts on a few fixed validation images."""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Sequence

from numpy import uint8
from numpy.typing import NDArray

from cascade_clip.config.schema import Recipe
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.drawing.palette import Colour
from cascade_clip.files import write_files
from cascade_clip.inference.predictor import Predictor
from cascade_clip.inference.vocabulary import Vocabulary
from cascade_clip.labels import LabelMap
from cascade_clip.report.curves import curves_figure
from cascade_clip.report.picture_sheets import picture_image, picture_sheet
from cascade_clip.training.run_folder import RunFolder

logger = logging.getLogger(__name__)
QUALITY = 90


def write_curves(run: RunFolder, title: str) -> None:
    """Draw everything that the run has logged into `pictures/curves.png`.

    A picture that cannot be written is no reason to stop a run: it is logged.
    """
    _write(run, "curves.png", curves_figure(run.log_entries(), title=title))


def write_validation_sheet(
    run: RunFolder,
    step: int,
    predictor: Predictor,
    vocabulary: Vocabulary,
    dataset: PreparedDataset,
    recipe: Recipe,
    colours: Sequence[Colour],
) -> None:
    """Segment the run's fixed images and write image, label, prediction and errors of each as one sheet.

    A sheet that cannot be written is logged, as with `write_curves`.

    Args:
        run: Where the sheet goes, as `pictures/validation-000400.jpg` after 400 steps.
        step: Steps done.
        predictor: The network in evaluation mode, and how it looks at images.
        vocabulary: The classes of the dataset, and which of them are seen.
        dataset: Its part "val" is shown.
        recipe: How many images, and the seed that chooses them.
        colours: K colours of the classes.

    Raises:
        UserError: An image or a label cannot be read.
    """
    names = vocabulary.names

    def predict(image: NDArray[uint8]) -> LabelMap:
        return predictor.segment_image(image, vocabulary).labels

    chosen = shown_images(dataset.count("val"), recipe.train.pictures, recipe.seed)
    unseen = {name for name, seen in zip(names, vocabulary.seen.tolist(), strict=True) if not seen}
    sheet = picture_sheet([picture_image(dataset, index, names, colours, predict) for index in chosen], unseen)
    encoded = io.BytesIO()
    sheet.save(encoded, "JPEG", quality=QUALITY)
    _write(run, run.validation_sheet(step).name, encoded.getvalue())


def shown_images(count: int, shown: int, seed: int) -> list[int]:
    """Indices of the images that a run shows, rising: the same ones for the same seed, drawn apart from all else."""
    return sorted(random.Random(seed).sample(range(count), min(shown, count)))


def _write(run: RunFolder, name: str, content: bytes) -> None:
    try:
        write_files({run.pictures / name: content})
    except OSError as error:
        logger.warning('"%s" cannot be written: %s. Training goes on.', run.pictures / name, error.strerror or error)
