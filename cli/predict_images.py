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
from cascade_clip.inference import inputs, prediction_files, sources
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


class Prediction(NamedTuple):
    """One image that was segmented and written."""

    segmentation: segmentations.Segmentation
    files: prediction_files.PredictionFiles

    def record(self) -> dict[str, Any]:
        """What the result's JSON says of the image."""
        record = self.segmentation.record()
        files = {name: str(path) for name, path in self.files._asdict().items() if path is not None}
        return {**{key: value for key, value in record.items() if key != "names"}, "files": files}


def segmented_images(
    job: PredictionJob, images: Sequence[tuple[sources.Source, str]]
) -> Iterator[tuple[sources.Source, Prediction | UserError]]:
    """Segment and write image after image; one that cannot be read yields its error and the others are still done.

    Args:
        job: The model, what is looked for, and where to write.
        images: Files, and the stem of each one's output files.

    Raises:
        UserError: The output cannot be written.
    """
    flat = sources.flat_stems([stem for _, stem in images])
    waiting: deque[tuple[sources.Source, Future[Prediction] | UserError]] = deque()
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
                waiting.append((source, error))
            else:
                explanation = job.explainer.draw(image, segmentation) if job.explainer is not None else None
                written = writer.submit(_write, job, source.path, segmentation, stem, flat[stem], explanation)
                waiting.append((source, written))
            while len(waiting) > (1 if ahead else 0):
                done, result = waiting.popleft()
                yield done, result if isinstance(result, UserError) else result.result()


def _pixels(source: sources.Source) -> NDArray[np.uint8]:
    return inputs.rgb_pixels(source.path, readable(source.name))


def _write(
    job: PredictionJob,
    path: Path,
    segmentation: segmentations.Segmentation,
    stem: str,
    flat_stem: str,
    explanation: bytes | None,
) -> Prediction:
    """Write the files of an image, and give its masks to the writers of other formats."""
    grey = job.labels == "grey"
    files = segmentation.save(job.output, stem, grey=grey, scores=job.scores, explanation=explanation)
    for writer in job.masks:
        writer.add(path, flat_stem, segmentation)
    return Prediction(segmentation, files)


def image_outcome(source: sources.Source, result: Prediction | UserError, *, single: bool, brief: bool) -> Outcome:
    """Keep of one result what is printed and written at the end; the only image's error is the command's."""
    if isinstance(result, Prediction):
        show = prediction_line if brief else prediction_table
        return Outcome(result.record(), show(result.segmentation, title=readable(source.name)))
    return left_out("image", source, result, single=single)


def left_out(kind: str, source: sources.Source, error: UserError, *, single: bool) -> Outcome:
    """Report one of several files that could not be done; the only one's error is the command's."""
    if single:
        raise error
    stderr.insist(f"Left out: {error}")
    return Outcome({kind: source.name, "error": str(error)}, None)
