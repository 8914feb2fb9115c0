"""Images of `predict`: what is read, labels, overlay and JSON of each, and what the stages see of a class."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType

from cascade_clip.analysis import stage_masks
from cascade_clip.errors import UserError, closest, readable
from cascade_clip.inference import inputs, prediction_files, sources
from cascade_clip.inference import predictor as predictors
from cascade_clip.inference import segmentation as segmentations
from cascade_clip.inference import vocabulary as vocabularies
from cascade_clip.report import map_grids, mask_formats
from cascade_clip_cli.console import stderr
from cascade_clip_cli.progress import progress_bar
from cascade_clip_cli.tables import prediction_line, prediction_table

LARGEST_SHOWN = 4
"""So many classes are explained where none are named."""


def check_explained(wanted: Sequence[str], names: Sequence[str]) -> None:
    """Check that the classes to explain are looked for; raises UserError where one is not."""
    for name in wanted:
        if name not in names:
            raise UserError(f'"{name}" of --explain-classes is none of the classes.{closest(name, names)}')


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
    """Segment and write image after image, with the stem of its files; the others of one that cannot be read are done.

    Raises UserError: the output cannot be written, or the only image not read.
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
    """Report a file that could not be done, and go on; if it is the only one, raise its error."""
    if single:
        raise error
    stderr.insist(f"Left out: {error}")
    return Outcome({kind: source.name, "error": str(error)}, None)


def fetched_sources(found: Sequence[sources.Source], folder: Path) -> tuple[list[sources.Source], list[Outcome]]:
    """Read what is not a file into files of a folder; if it is the only source, raise its error.

    Gives those that could be read, and the outcomes of the others.
    """
    read, failed = [], []
    for source in found:
        try:
            with stderr.doing(f"reading {source.name}"):
                read.append(sources.fetched(source, folder))
        except UserError as error:
            failed.append(left_out("image", source, error, single=len(found) == 1))
    return read, failed


def output_stems(
    found: Sequence[sources.Source], output: Path, reserved: Collection[str] = ()
) -> dict[sources.Source, str]:
    """The stem of each file's predictions: an earlier one of the same file is replaced, another's files are kept.

    `reserved` are stems of files that hold the masks of all images.
    """
    read = {Path(os.path.realpath(source.path)) for source in found}
    longer: list[sources.Source] = []

    def taken(stem: str, source: sources.Source) -> bool:
        if stem.casefold() not in reserved and not prediction_files.is_taken(output, stem, source.identity, read):
            return False
        longer.append(source)
        return True

    stems = dict(zip(found, sources.output_stems(found, taken), strict=True))
    replaced = sum(prediction_files.is_prediction(output, stem) for stem in stems.values())
    if replaced:
        notice(f"Earlier predictions of the same images in {output} are replaced: {replaced}.")
    if longer:
        one = longer[0]
        others = f", and {len(set(longer)) - 1} more likewise" if len(set(longer)) > 1 else ""
        notice(
            f'{output} holds files of something else called "{one.path.stem}": {one.name} becomes {stems[one]}{others}.'
        )
    return stems


def check_apart(result: Path | None, found: Sequence[sources.Source], output: Path) -> None:
    """Check that the file of `--json` is not the record of one of the predictions; raises UserError where it is."""
    if result is None:
        return
    for stem in sources.output_stems(found):
        if (record := output / f"{stem}{prediction_files.RECORD}").resolve() == result.resolve():
            raise UserError(f'--json "{result}" is where the prediction "{record.name}" goes: choose another file.')


def notice(line: str) -> None:
    """Tell on stderr what a user may not expect; a script that asks for results only does not get it."""
    stderr.print(line, soft_wrap=True)
