"""`cascade-clip eval`: seen and unseen scores of a checkpoint, as tables, a record, pictures and a page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from cascade_clip import output_folder as output_folder_rules
from cascade_clip import runtime as processes
from cascade_clip import segmenter
from cascade_clip.config import schema
from cascade_clip.data import dataset_info, prepared
from cascade_clip.errors import UserError, counted
from cascade_clip.evaluation import details, published_training_free
from cascade_clip.evaluation import evaluate as evaluation
from cascade_clip.evaluation import published as evaluation_published
from cascade_clip.files import check_output_file
from cascade_clip.inference import segmentation
from cascade_clip.inference import vocabulary as vocabularies
from cascade_clip.model import dense
from cascade_clip.model.clip import text
from cascade_clip.report import evaluation_page, mask_formats, page, picture_sheets
from cascade_clip.training import run_folder
from cascade_clip_cli import options
from cascade_clip_cli.checked_options import finite, output_folder, path_option, place
from cascade_clip_cli.console import stdout
from cascade_clip_cli.launch import run_processes
from cascade_clip_cli.loading import TORCH, check_dataset, check_runtime, compile_network, load_model, recipe_of
from cascade_clip_cli.progress import progress_bar
from cascade_clip_cli.tables import confused_table, per_class_table, scores_table, write_json

PAIRS_SHOWN = 5
"""Pairs of confused classes that the terminal names; the record holds more."""
EXAMPLES = 4


@dataclass(frozen=True)
class WindowOptions:
    """How windows are cut and scored, in place of what the model's recipe says."""

    crop: Annotated[
        int | None,
        typer.Option("--crop", min=1, max=options.LARGEST_SIDE, help="Side of the window; default: the model's."),
    ] = None
    stride: Annotated[
        int | None, typer.Option("--stride", min=1, max=options.LARGEST_SIDE, help="Distance of windows, in pixels.")
    ] = None
    bias: Annotated[
        float | None, typer.Option("--bias", min=0.0, callback=finite, help="Subtracted from seen classes' scores.")
    ] = None
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Average with the mirrored image.", show_default=False)
    ] = None

    def change(self, inference: schema.InferenceConfig) -> schema.InferenceConfig:
        """Inference with those that were given; raises UserError where they do not fit, as a stride above the crop."""
        given = {"crop": self.crop, "stride": self.stride, "seen_bias": self.bias, "flip": self.flip}
        chosen = {name: value for name, value in given.items() if value is not None}
        try:
            return schema.InferenceConfig.model_validate({**inference.model_dump(), **chosen})
        except ValidationError as error:
            reason = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
            raise UserError(f"These windows cannot be cut: {reason}. Give --crop and --stride together.") from error


@dataclass(frozen=True)
class OutputOptions:
    """What is written beside the tables, and where."""

    pictures: Annotated[
        Path | None,
        path_option(
            "--pictures",
            check=output_folder,
            metavar="DIR",
            help="Write example images, confusion matrix and per-class chart to this folder.",
        ),
    ] = None
    report: Annotated[
        Path | None,
        path_option(
            "--report", check=output_folder, metavar="DIR", help="Write everything as one HTML page, DIR/index.html."
        ),
    ] = None
    formats: Annotated[
        str | None, typer.Option("--format", help="coco: also write all masks with scores, coco.json beside eval.json.")
    ] = None
    output: options.OutputOption = None
    json_file: options.JsonOption = None

    def check(self, checkpoint: str, record_file: Path | None, nproc: int) -> list[type[mask_formats.MaskWriter]]:
        """Find what would stop the command after the work is done; returns the writers of masks."""
        if record_file is not None:
            check_output_file(record_file, "The record (see --output)")
            own = partial(output_folder_rules.record_has, keys={"scores"})
            output_folder_rules.check_own_files([record_file], own)
        if self.pictures is not None:
            evaluation_page.check_pictures_folder(self.pictures)
        if self.report is not None:
            page.check_page(self.report / "index.html")
        for asked in filter(None, (self.pictures, self.report, self.output)):
            whole = asked.resolve()
            datasets = [above for above in (whole, *whole.parents) if (above / dataset_info.INFO_FILE).is_file()]
            output_folder_rules.check_outside(asked, [Path(checkpoint).expanduser(), *datasets])
        writers = mask_formats.mask_writers(self.formats, {"coco"})
        if writers and (record_file is None or nproc > 1):
            need = "one process" if nproc > 1 else "a folder to write to: give --output"
            raise UserError(f"--format {self.formats} needs {need}.")
        return writers


def evaluate(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CKPT", callback=place, help="Checkpoint folder, ORG/NAME on the Hub, or dense:CLIP."),
    ],
    *,
    split: options.SplitOption = None,
    data: options.DataOption = None,
    stream: options.StreamOption = False,
    windows: WindowOptions,
    templates: Annotated[
        str | None,
        typer.Option(
            "--templates",
            callback=place,
            help="Sentences for class names: single, multi, imagenet, maskclip, gem or a file; default: the model's.",
        ),
    ] = None,
    refine: options.RefineOption = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most N images, spread evenly; 0: all.")] = 0,
    nproc: options.ProcessesOption = 1,
    device: options.DeviceOption = "auto",
    precision: options.PrecisionOption = "fp32",
    compiled: options.CompileOption = False,
    runtime: options.RuntimeOption = TORCH,
    outputs: OutputOptions,
    quiet: options.QuietOption = False,
) -> None:
    """Measure seen and unseen mIoU, hIoU and pixel accuracy of a checkpoint on a validation set.

    Without --split, the split that the model was trained on is used. The record is written as eval.json beside the
    checkpoint folder, or into --output.

    A training-free model (dense:CLIP) is evaluated on a published benchmark as its method was released: sizes, query
    words, thresholds.

    Example: cascade-clip eval runs/mine/model --split shapes-seen
    """
    check_runtime(runtime, precision)
    recipe = recipe_of(checkpoint)
    if recipe is not None:
        windows.change(recipe.inference)
    check_dataset(split, data, recipe, stream=stream)
    if templates is not None:
        text.templates_of(templates)
    record_file = place_of_record(checkpoint, outputs.output)
    writers = outputs.check(checkpoint, record_file, nproc)
    if nproc > 1 and run_processes(nproc, device):
        return
    state, own_device = processes.own_process(device)
    model = load_model(checkpoint, runtime, own_device, precision)
    chosen, dataset = evaluation.find_dataset(model, split, data, stream=stream)
    model = model.for_benchmark(chosen)
    inference = model.predictor(windows.change(model.recipe.inference), refine=refine).inference
    vocabulary = model.vocabulary(split=chosen, templates=templates)
    model.release_text_tower()
    compile_seconds = compile_network(model, vocabulary.text) if compiled else None
    masks = [writer(record_file.parent, vocabulary.names, vocabulary.colours) for writer in writers if record_file]

    def observe(found: segmentation.Segmentation) -> None:
        for writer in masks:
            writer.add(Path(found.source or ""), "", found)

    with progress_bar("evaluate") as progress:
        result = evaluation.evaluate(
            model,
            chosen,
            dataset,
            inference=inference,
            templates=templates,
            limit=limit,
            progress=progress if state.is_main_process else None,
            observe=observe if masks else None,
        )
    if not state.is_main_process:
        return
    record = {"checkpoint": checkpoint, **result.to_dict(), "runtime": runtime, "precision": precision}
    record["compile_seconds"] = compile_seconds
    done = Evaluation(model, dataset, vocabulary, result, record)
    show_evaluation(done)
    for file in (record_file, outputs.json_file):
        if file is not None:
            write_json(file, record)
    written = [record_file] if record_file is not None else []
    written += [writer.finish() for writer in masks]
    for each in [*written, *write_pictures_and_report(done, checkpoint, outputs.pictures, outputs.report)]:
        stdout.print(f"Written: {each}")


@dataclass(frozen=True)
class Evaluation:
    """An evaluation that is done; `record` is what eval.json holds."""

    model: segmenter.CascadeCLIP
    dataset: prepared.PreparedDataset
    vocabulary: vocabularies.Vocabulary
    result: evaluation.EvaluationResult
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


def show_evaluation(done: Evaluation) -> None:
    """Print the tables."""
    result = done.result
    stdout.print(per_class_table(result.scores))
    if result.confused:
        stdout.print(confused_table(result.confused[:PAIRS_SHOWN]))
    table = scores_table(result.scores, done.paper, result.split.name, title=done.title, others=done.published)
    stdout.print(table)


def place_of_record(checkpoint: str, output: Path | None) -> Path | None:
    """Where eval.json is written: into `output`, else beside the checkpoint's folder. None: it has none."""
    folder = Path(checkpoint).expanduser()
    beside = folder.resolve().parent if folder.is_dir() else None
    chosen = output or beside
    return chosen / "eval.json" if chosen else None


def write_pictures_and_report(
    done: Evaluation, checkpoint: str, pictures: Path | None, report: Path | None
) -> list[Path]:
    """Draw the examples once and write the folder of pictures and the page, where they were asked for; gives both.

    The log of the run that the checkpoint, as the user gave it, belongs to gives the page its curves. Raises UserError:
    a folder cannot be written to.
    """
    if pictures is None and report is None:
        return []
    content, written = _page(done, checkpoint), []
    if pictures is not None:
        evaluation_page.write_evaluation_pictures(pictures, content)
        written.append(pictures)
    if report is not None:
        written.append(evaluation_page.write_evaluation_report(report, content))
    return written


def _page(done: Evaluation, checkpoint: str) -> evaluation_page.EvaluationPage:
    result, paper, folder = done.result, done.paper, Path(checkpoint).expanduser()
    published = evaluation_published.paper_figures(paper.table, paper.row, result.split.name) if paper else None
    return evaluation_page.EvaluationPage(
        title=done.title,
        record=done.record,
        result=result,
        paper=published,
        paper_source=f'{paper.table}, "{paper.row}"' if paper and published else None,
        pictures=_examples(done),
        log=run_folder.RunFolder(folder.resolve().parent).log_entries() if folder.is_dir() else [],
        published=[(row.shown, row.miou[result.split.name]) for row in done.published],
        sources=published_training_free.sources_of(done.published),
    )


def _examples(done: Evaluation) -> list[picture_sheets.PicturedImage]:
    """Picture the best, median and worst images; they are segmented once more, so that none had to be kept."""
    result, names = done.result, done.vocabulary.names
    predictor = done.model.predictor(result.inference)
    groups = details.example_images(result.images, EXAMPLES)
    chosen = [(group, one) for group, images in groups.items() for one in images]
    pictured, colours = [], result.split.colours
    with progress_bar("pictures") as progress:
        for number, (group, one) in enumerate(chosen):
            progress(number, len(chosen), one.id)
            pictured.append(
                picture_sheets.picture_image(
                    done.dataset,
                    one.index,
                    names,
                    colours,
                    lambda image: predictor.segment_image(image, done.vocabulary).labels,
                    group=group,
                )
            )
    return pictured
