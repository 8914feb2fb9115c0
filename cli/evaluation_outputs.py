"""What `eval` leaves behind: tables on stdout, the record, pictures, a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_clip import segmenter
from cascade_clip.config import schema
from cascade_clip.data import prepared
from cascade_clip.errors import counted
from cascade_clip.evaluation import details, evaluate, published_training_free
from cascade_clip.evaluation import published as evaluation_published
from cascade_clip.inference import vocabulary as vocabularies
from cascade_clip.model import dense
from cascade_clip.report import evaluation_page, picture_sheets
from cascade_clip.training import run_folder
from cascade_clip_cli.console import stdout
from cascade_clip_cli.progress import progress_bar
from cascade_clip_cli.tables import confused_table, per_class_table, scores_table

PAIRS_SHOWN = 5
"""Pairs of confused classes that the terminal names; the record holds more."""
EXAMPLES = 4
"""Images pictured as best, as median and as worst."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that is done; `record` is what eval.json holds."""

    model: segmenter.CascadeCLIP
    dataset: prepared.PreparedDataset
    vocabulary: vocabularies.Vocabulary
    result: evaluate.EvaluationResult
    record: dict[str, Any]

    @property
    def title(self) -> str:
        """What was measured on what."""
        measured, whole = len(self.result.images), self.result.images_of_the_set
        some = "" if measured == whole else f"{measured} of "
        return f"{self.model.recipe.name} on {self.result.split.name}, {some}{counted(whole, 'image')}"

    @property
    def paper(self) -> schema.PaperFigure | None:
        """The paper's row to compare with: only on the split that the recipe was made for."""
        own = self.model.split
        return self.model.recipe.paper if own is not None and own.name == self.result.split.name else None

    @property
    def published(self) -> tuple[published_training_free.PublishedMethod, ...]:
        """Published figures of the same training-free method, CLIP and benchmark; empty for a trained model."""
        network, split = self.model.network, self.result.split.name
        if not isinstance(network, dense.DenseNetwork):
            return ()
        clip, name = self.model.recipe.clip, network.method.name
        return published_training_free.published_methods(name, clip.architecture, clip.weights, split=split)


def show_evaluation(evaluation: Evaluation) -> None:
    """Print the tables."""
    result = evaluation.result
    stdout.print(per_class_table(result.scores))
    if result.confused:
        stdout.print(confused_table(result.confused[:PAIRS_SHOWN]))
    table = scores_table(
        result.scores, evaluation.paper, result.split.name, title=evaluation.title, others=evaluation.published
    )
    stdout.print(table)


def place_of_record(checkpoint: str, output: Path | None) -> Path | None:
    """Where eval.json is written: into `output`, else beside the checkpoint's folder. None: it has none."""
    folder = Path(checkpoint).expanduser()
    beside = folder.resolve().parent if folder.is_dir() else None
    place = output or beside
    return place / "eval.json" if place else None


def write_pictures_and_report(
    evaluation: Evaluation, checkpoint: str, pictures: Path | None, report: Path | None
) -> list[Path]:
    """Draw the examples once and write the folder of pictures and the page, where they were asked for; gives both.

    The log of the run that the checkpoint, as the user gave it, belongs to gives the page its curves. Raises UserError:
    a folder cannot be written to.
    """
    if pictures is None and report is None:
        return []
    page, written = _page(evaluation, checkpoint), []
    if pictures is not None:
        evaluation_page.write_evaluation_pictures(pictures, page)
        written.append(pictures)
    if report is not None:
        written.append(evaluation_page.write_evaluation_report(report, page))
    return written


def _page(evaluation: Evaluation, checkpoint: str) -> evaluation_page.EvaluationPage:
    result, paper, folder = evaluation.result, evaluation.paper, Path(checkpoint).expanduser()
    published = evaluation_published.paper_figures(paper.table, paper.row, result.split.name) if paper else None
    return evaluation_page.EvaluationPage(
        title=evaluation.title,
        record=evaluation.record,
        result=result,
        paper=published,
        paper_source=f'{paper.table}, "{paper.row}"' if paper and published else None,
        pictures=_examples(evaluation),
        log=run_folder.RunFolder(folder.resolve().parent).log_entries() if folder.is_dir() else [],
        published=[(row.shown, row.miou[result.split.name]) for row in evaluation.published],
        sources=published_training_free.sources_of(evaluation.published),
    )


def _examples(evaluation: Evaluation) -> list[picture_sheets.PicturedImage]:
    """Picture the best, median and worst images; they are segmented once more, so that none had to be kept."""
    result, names = evaluation.result, evaluation.vocabulary.names
    predictor = evaluation.model.predictor(result.inference)
    groups = details.example_images(result.images, EXAMPLES)
    chosen = [(group, one) for group, images in groups.items() for one in images]
    pictured, colours = [], result.split.colours
    with progress_bar("pictures") as progress:
        for done, (group, one) in enumerate(chosen):
            progress(done, len(chosen), one.id)
            pictured.append(
                picture_sheets.picture_image(
                    evaluation.dataset,
                    one.index,
                    names,
                    colours,
                    lambda image: predictor.segment_image(image, evaluation.vocabulary).labels,
                    group=group,
                )
            )
    return pictured
