"""Images of `predict`, one after the other: labels, overlay and JSON of each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType

from cascade_clip.errors import UserError, readable
from cascade_clip.inference import inputs, sources
from cascade_clip.inference import predictor as predictors
from cascade_clip.inference import segmentation as segmentations
from cascade_clip.inference import vocabulary as vocabularies
from cascade_clip.report import mask_formats
from cascade_clip_cli.console import stderr
from cascade_clip_cli.explanation import Explainer
from cascade_clip_cli.progress import progress_bar
from cascade_clip_cli.tables import prediction_line, prediction_table


class PredictionJob(NamedTuple):
    """What is the same for every image and video."""

    predictor: predictors.Predictor
    vocabulary: vocabularies.Vocabulary
    output: Path
    threshold: float | None
    """Pixels whose best score is below it belong to no class."""
    explainer: Explainer | None = None
    masks: Sequence[mask_formats.MaskWriter] = ()
    """Collect the masks of all images in other formats."""
    labels: str | None = None
    """Label maps of images are PNGs with a "palette" (also where None) or "grey"; of videos None: not written."""
    scores: bool = False
    """Whether the scores of all classes are written."""
    single: bool = False
    """The only image's or video's error is the command's."""
    brief: bool = False
    """Images are shown in a line instead of a table."""

    def segment(self, image: NDArray[np.uint8]) -> segmentations.Segmentation:
        """Segment an image (H, W, 3) uint8 RGB; it stays the predictor's where it is explained, too."""
        if self.explainer is None:
            return self.predictor.segment_image(image, self.vocabulary, self.threshold)
        self.predictor.set_image(image)
        return self.predictor.segment(self.vocabulary, self.threshold)


class Outcome(NamedTuple):
    """What is left of one image or video when it is done."""

    record: dict[str, Any]
    shown: RenderableType | None
    """Its table or line; None where it could not be read."""


def segmented_images(job: PredictionJob, images: Sequence[tuple[sources.Source, str]]) -> Iterator[Outcome]:
    """Segment and write image after image; one that cannot be read is reported and the others are still done.

    Args:
        job: The model, what is looked for, and where to write.
        images: Files, and the stem of each one's output files.

    Raises:
        UserError: The output cannot be written, or the only image not read.
    """
    flat = sources.flat_stems([stem for _, stem in images])
    waiting: deque[Future[Outcome] | Outcome] = deque()
    # The next image is read and the last one written while the network works.
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer, progress_bar("predict") as progress:
        reads = ((source, stem, reader.submit(_pixels, source)) for source, stem in images)
        ahead = deque(islice(reads, 1))
        for number in range(len(images)):
            ahead.extend(islice(reads, 1))
            source, stem, read = ahead.popleft()
            progress(number, len(images), source.path.name)
            try:
                image = read.result()
                segmentation = replace(job.segment(image), source=source.name)
            except UserError as error:
                waiting.append(left_out("image", source, error, single=job.single))
            else:
                explanation = job.explainer.draw(image, segmentation) if job.explainer is not None else None
                waiting.append(writer.submit(_write, job, source, segmentation, stem, flat[stem], explanation))
            while len(waiting) > (1 if ahead else 0):
                done = waiting.popleft()
                yield done.result() if isinstance(done, Future) else done


def _pixels(source: sources.Source) -> NDArray[np.uint8]:
    return inputs.rgb_pixels(source.path, readable(source.name))


def _write(
    job: PredictionJob,
    source: sources.Source,
    segmentation: segmentations.Segmentation,
    stem: str,
    flat_stem: str,
    explanation: bytes | None,
) -> Outcome:
    """Write the files of an image, and give its masks to the writers of other formats."""
    grey = job.labels == "grey"
    files = segmentation.save(job.output, stem, grey=grey, scores=job.scores, explanation=explanation)
    for writer in job.masks:
        writer.add(source.path, flat_stem, segmentation)
    record = {key: value for key, value in segmentation.record().items() if key != "names"}
    record["files"] = {name: str(path) for name, path in files._asdict().items() if path is not None}
    show = prediction_line if job.brief else prediction_table
    return Outcome(record, show(segmentation, title=readable(source.name)))


def left_out(kind: str, source: sources.Source, error: UserError, *, single: bool) -> Outcome:
    """Report one of several files that could not be done; the only one's error is the command's."""
    if single:
        raise error
    stderr.insist(f"Left out: {error}")
    return Outcome({kind: source.name, "error": str(error)}, None)
