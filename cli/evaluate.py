"""`cascade-clip eval`: seen and unseen scores of a checkpoint on a validation set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cascade_clip import output_folder as output_folder_rules
from cascade_clip import runtime as processes
from cascade_clip.config import recipes, schema
from cascade_clip.data import dataset_info
from cascade_clip.errors import UserError
from cascade_clip.evaluation import evaluate as evaluation
from cascade_clip.files import check_output_file
from cascade_clip.inference import segmentation
from cascade_clip.model.clip import text
from cascade_clip.report import evaluation_page, mask_formats, page
from cascade_clip_cli import options
from cascade_clip_cli.checked_options import finite, output_folder, path_option, place
from cascade_clip_cli.console import stdout
from cascade_clip_cli.evaluation_outputs import Evaluation, place_of_record, show_evaluation, write_pictures_and_report
from cascade_clip_cli.launch import run_processes
from cascade_clip_cli.loading import (
    TORCH,
    check_dataset,
    check_runtime,
    compile_network,
    load_model,
    recipe_of,
)
from cascade_clip_cli.progress import progress_bar
from cascade_clip_cli.tables import write_json


@dataclass(frozen=True)
class WindowOptions:
    """How windows are cut and scored, in place of what the model's recipe says."""

    crop: Annotated[
        int | None,
        typer.Option("--crop", min=1, max=options.LARGEST_SIDE, help="Side of the window; default: the model's."),
    ] = None
    stride: Annotated[
        int | None, typer.Option("--stride", min=1, max=options.LARGEST_SIDE, help="Distance of windows.")
    ] = None
    bias: Annotated[
        float | None, typer.Option("--bias", min=0.0, callback=finite, help="Taken off the scores of seen classes.")
    ] = None
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Average with the mirrored image.", show_default=False)
    ] = None

    def change(self, recipe: schema.Recipe) -> schema.InferenceConfig:
        """A recipe's inference with those that were given; raises UserError where they do not fit."""
        given = {"crop": self.crop, "stride": self.stride, "seen_bias": self.bias, "flip": self.flip}
        chosen = [f"inference.{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
        return recipes.change_recipe(recipe, chosen).inference


@dataclass(frozen=True)
class OutputOptions:
    """What is written beside the tables, and where."""

    pictures: Annotated[
        Path | None,
        path_option(
            "--pictures",
            check=output_folder,
            metavar="DIR",
            help="Write example images, confusion and per-class figures here.",
        ),
    ] = None
    report: Annotated[
        Path | None,
        path_option(
            "--report", check=output_folder, metavar="DIR", help="Write all of it as one HTML page, DIR/index.html."
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
            check_output_file(record_file, "The record")
            own = partial(output_folder_rules.record_has, keys={"scores"})
            output_folder_rules.check_own_files([record_file], own)
        if self.pictures is not None:
            evaluation_page.check_pictures_folder(self.pictures)
        if self.report is not None:
            page.check_page(self.report / "index.html")
        for asked in filter(None, (self.pictures, self.report, self.output)):
            place = asked.resolve()
            datasets = [above for above in (place, *place.parents) if (above / dataset_info.INFO_FILE).is_file()]
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
        str | None, typer.Option("--templates", callback=place, help="Sentences for class names; default: the model's.")
    ] = None,
    refine: options.RefineOption = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Only so many images, spread evenly; 0: all.")] = 0,
    nproc: options.ProcessesOption = 1,
    device: options.DeviceOption = "auto",
    precision: options.PrecisionOption = "fp32",
    compiled: options.CompileOption = False,
    runtime: options.RuntimeOption = TORCH,
    outputs: OutputOptions,
    quiet: options.QuietOption = False,
) -> None:
    """Measure seen and unseen mIoU, hIoU and pixel accuracy of a checkpoint on a validation set.

    Without --split the classes the model was trained on count. The record is written as eval.json beside the
    checkpoint folder, or into --output.

    A training-free model (dense:CLIP) is evaluated on a published benchmark as its method was released: sizes, query
    words, thresholds.

    Example: cascade-clip eval runs/mine/model --split shapes-seen
    """
    check_runtime(runtime, precision)
    recipe = recipe_of(checkpoint)
    if recipe is not None:
        windows.change(recipe)
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
    inference = model.predictor(windows.change(model.recipe), refine=refine).inference
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
    written = [writer.finish() for writer in masks]
    for each in [*written, *write_pictures_and_report(done, checkpoint, outputs.pictures, outputs.report)]:
        stdout.print(f"Written: {each}")
