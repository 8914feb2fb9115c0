"""What `eval` leaves behind: tables on stdout, the record, pictures, a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from cascade_clip.config.schema import InferenceConfig, PaperFigure
    from cascade_clip.data.catalogue import Split
    from cascade_clip.data.prepared import PreparedDataset
    from cascade_clip.evaluation.details import ConfusedPair, ImageResult
    from cascade_clip.evaluation.scores import Scores
    from cascade_clip.report.evaluation_page import EvaluationPage
    from cascade_clip.report.picture_sheets import PicturedImage
    from cascade_clip.segmenter import CascadeCLIP

STDOUT = Path("-")
PAIRS_SHOWN = 5
"""Pairs of confused classes that the terminal names; the record holds more."""
EXAMPLES = 4
"""Images pictured as best, as median and as worst."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that is done.

    Attributes:
        model: What was measured.
        split: Its classes.
        dataset: Its images.
        inference: How they were segmented.
        text: (K, C) text embeddings of the classes.
        confusion: (K, K) counts over all processes.
        scores: Their scores.
        pairs: The classes that are confused most.
        images: How each image fares, in the order of the dataset.
        record: What eval.json holds.
    """

    model: CascadeCLIP
    split: Split
    dataset: PreparedDataset
    inference: InferenceConfig
    text: Tensor
    confusion: NDArray[np.int64]
    scores: Scores
    pairs: list[ConfusedPair]
    images: list[ImageResult]
    record: dict[str, Any]

    @property
    def title(self) -> str:
        """What was measured on what."""
        measured, whole = self.record["images"], self.record["images_of_the_set"]
        some = "" if measured == whole else f" of {whole}"
        return f"{self.model.recipe.name} on {self.split.name}, {measured}{some} images"

    @property
    def paper(self) -> PaperFigure | None:
        """The paper's row to compare with: only on the split that the recipe was made for."""
        own = self.model.split
        return self.model.recipe.paper if own is not None and own.name == self.split.name else None


def show_evaluation(evaluation: Evaluation) -> None:
    """Print the tables."""
    from cascade_clip_cli.console import stdout
    from cascade_clip_cli.tables import confused_table, per_class_table, scores_table

    stdout.print(per_class_table(evaluation.scores))
    if evaluation.pairs:
        stdout.print(confused_table(evaluation.pairs[:PAIRS_SHOWN]))
    stdout.print(scores_table(evaluation.scores, evaluation.paper, evaluation.split.name, title=evaluation.title))


def write_record(record: dict[str, Any], checkpoint: str, output: Path | None, json_file: Path | None) -> None:
    """Write eval.json into `output`, else beside the checkpoint's folder, and the same where `--json` says."""
    from cascade_clip_cli.tables import write_json

    folder = Path(checkpoint).expanduser()
    beside = folder.resolve().parent if folder.is_dir() else None
    if place := output or beside:
        write_json(place / "eval.json", record)
    if json_file is not None:
        write_json(json_file, record)


def write_pictures_and_report(
    evaluation: Evaluation, checkpoint: str, pictures: Path | None, report: Path | None
) -> list[Path]:
    """Draw the examples once and write what was asked for.

    Args:
        evaluation: What was measured.
        checkpoint: As the user gave it; the log of a run it belongs to gives the report its curves.
        pictures: Folder of the pictures.
        report: Folder of the page.

    Returns:
        The folder of pictures and the page, where they were asked for.

    Raises:
        UserError: A folder cannot be written to.
    """
    from cascade_clip.report.evaluation_page import write_evaluation_report
    from cascade_clip.report.evaluation_pictures import write_evaluation_pictures

    if pictures is None and report is None:
        return []
    page, written = _page(evaluation, checkpoint), []
    if pictures is not None:
        write_evaluation_pictures(pictures, page)
        written.append(pictures)
    if report is not None:
        written.append(write_evaluation_report(report, page))
    return written


def _page(evaluation: Evaluation, checkpoint: str) -> EvaluationPage:
    from cascade_clip.evaluation.published import paper_figures
    from cascade_clip.report.evaluation_page import EvaluationPage
    from cascade_clip.report.palette import class_colours
    from cascade_clip.training.run_folder import RunFolder

    paper, folder = evaluation.paper, Path(checkpoint).expanduser()
    published = paper_figures(paper.table, paper.row, evaluation.split.name) if paper else None
    return EvaluationPage(
        title=evaluation.title,
        record=evaluation.record,
        scores=evaluation.scores,
        colours=class_colours(evaluation.split.class_names),
        paper=published,
        paper_source=f'{paper.table}, "{paper.row}"' if paper and published else None,
        confusion=evaluation.confusion,
        pairs=evaluation.pairs,
        images=evaluation.images,
        pictures=_examples(evaluation),
        log=RunFolder(folder.resolve().parent).log_entries() if folder.is_dir() else [],
    )


def _examples(evaluation: Evaluation) -> list[PicturedImage]:
    """Picture the best, median and worst images; they are segmented once more, so that none had to be kept."""
    import torch

    from cascade_clip.evaluation.details import example_images
    from cascade_clip.inference.predictor import segment_image
    from cascade_clip.report.palette import class_colours
    from cascade_clip.report.picture_sheets import picture_image
    from cascade_clip_cli.console import progress_bar

    model, names = evaluation.model, evaluation.split.class_names
    seen = torch.zeros(len(names), dtype=torch.bool)
    seen[list(evaluation.split.seen_indices)] = True
    settings = (evaluation.text, seen, model.recipe.data, evaluation.inference, model.device, model.dtype)
    groups = example_images(evaluation.images, EXAMPLES)
    chosen = [(group, one) for group, results in groups.items() for one in results]
    pictured, colours = [], class_colours(names)
    with progress_bar("pictures") as progress:
        for done, (group, one) in enumerate(chosen):
            progress(done, len(chosen), one.id)
            pictured.append(
                picture_image(
                    evaluation.dataset,
                    one.index,
                    names,
                    colours,
                    lambda image: segment_image(model.network, image, *settings).labels,
                    group=group,
                )
            )
    return pictured
