"""`cascade-clip eval`: seen and unseen scores of a checkpoint on a validation set."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from cascade_clip import output_folder as output_folder_rules
from cascade_clip import runtime as processes
from cascade_clip.config import schema
from cascade_clip.errors import UserError
from cascade_clip.evaluation import evaluate as evaluation
from cascade_clip.files import check_output_file
from cascade_clip.inference import segmentation
from cascade_clip.model.clip import text
from cascade_clip.report import evaluation_page, mask_formats, page
from cascade_clip_cli.before_loading import check_dataset, recipe_of
from cascade_clip_cli.checked_options import as_path, finite, output_folder, place
from cascade_clip_cli.compiling import compile_network
from cascade_clip_cli.console import be_quiet, show_log, stdout
from cascade_clip_cli.evaluation_outputs import Evaluation, place_of_record, show_evaluation, write_pictures_and_report
from cascade_clip_cli.launch import run_processes
from cascade_clip_cli.loading import TORCH, check_runtime, load_model
from cascade_clip_cli.options import (
    LARGEST_SIDE,
    CompileOption,
    DataOption,
    DeviceOption,
    JsonOption,
    OutputOption,
    PrecisionOption,
    ProcessesOption,
    QuietOption,
    RefineOption,
    RuntimeOption,
    SplitOption,
    StreamOption,
)
from cascade_clip_cli.progress import progress_bar
from cascade_clip_cli.tables import write_json


def evaluate(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CKPT", callback=place, help="Checkpoint folder, ORG/NAME on the Hub, or dense:CLIP."),
    ],
    split: SplitOption = None,
    data: DataOption = None,
    stream: StreamOption = False,
    crop: Annotated[
        int | None, typer.Option("--crop", min=1, max=LARGEST_SIDE, help="Side of the window; default: the model's.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", min=1, max=LARGEST_SIDE, help="Distance of windows.")
    ] = None,
    bias: Annotated[
        float | None, typer.Option("--bias", min=0.0, callback=finite, help="Taken off the scores of seen classes.")
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Average with the mirrored image.", show_default=False)
    ] = None,
    templates: Annotated[
        str | None, typer.Option("--templates", callback=place, help="Sentences for class names; default: the model's.")
    ] = None,
    refine: RefineOption = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Only so many images, spread evenly; 0: all.")] = 0,
    nproc: ProcessesOption = 1,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    compiled: CompileOption = False,
    runtime: RuntimeOption = TORCH,
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures",
            metavar="DIR",
            parser=as_path,
            callback=output_folder,
            help="Write example images, confusion and per-class figures here.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="DIR",
            parser=as_path,
            callback=output_folder,
            help="Write all of it as one HTML page, DIR/index.html.",
        ),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option("--format", help="coco: also write all masks with scores, coco.json beside eval.json."),
    ] = None,
    output: OutputOption = None,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Measure seen and unseen mIoU, hIoU and pixel accuracy of a checkpoint on a validation set.

    Without --split the classes the model was trained on count. The record is written as eval.json beside the
    checkpoint folder, or into --output.

    A training-free model (dense:CLIP) is evaluated on a published benchmark as its method was released: sizes, query
    words, thresholds.

    Example: cascade-clip eval runs/mine/model --split shapes-seen
    """
    if quiet:
        be_quiet()
    show_log()
    check_runtime(runtime, precision)
    windows = {"crop": crop, "stride": stride, "seen_bias": bias, "flip": flip}
    recipe = recipe_of(checkpoint)
    if recipe is not None:
        changed_inference(recipe.inference, **windows)
    check_dataset(split, data, recipe, stream=stream)
    if templates is not None:
        text.templates_of(templates)
    if (record_file := place_of_record(checkpoint, output)) is not None:
        check_output_file(record_file, "The record")
        own = partial(output_folder_rules.record_has, keys={"scores"})
        output_folder_rules.check_own_files([record_file], own)
    if pictures is not None:
        evaluation_page.check_pictures_folder(pictures)
    if report is not None:
        page.check_page(report / "index.html")
    writers = mask_formats.mask_writers(formats, {"coco"})
    if writers and (record_file is None or nproc > 1):
        need = "one process" if nproc > 1 else "a folder to write to: give --output"
        raise UserError(f"--format {formats} needs {need}.")
    if nproc > 1 and run_processes(nproc, device):
        return
    state, own_device = processes.own_process(device)
    model = load_model(checkpoint, runtime, own_device, precision)
    chosen, dataset = evaluation.find_dataset(model, split, data, stream=stream)
    for asked in filter(None, (pictures, report, output)):
        output_folder_rules.check_outside(asked, [dataset.folder, Path(checkpoint).expanduser()])
    model = model.for_benchmark(chosen)
    inference = changed_inference(model.recipe.inference, **windows)
    inference = model.predictor(inference, refine=refine).inference
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
    record = {
        "checkpoint": checkpoint,
        **result.to_dict(),
        "runtime": runtime,
        "precision": precision,
        "compile_seconds": compile_seconds,
    }
    done = Evaluation(model, dataset, vocabulary, result, record)
    show_evaluation(done)
    for file in (record_file, json_file):
        if file is not None:
            write_json(file, record)
    for written in [writer.finish() for writer in masks] + write_pictures_and_report(
        done, checkpoint, pictures, report
    ):
        stdout.print(f"Written: {written}")


def changed_inference(inference: schema.InferenceConfig, **changes: Any) -> schema.InferenceConfig:
    """Put the options that were given over the recipe's.

    Raises:
        UserError: A value that does not fit, for example a stride above the crop.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return schema.InferenceConfig.model_validate({**inference.model_dump(), **given})
    except ValidationError as error:
        reason = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise UserError(f"These windows cannot be cut: {reason}. Give --crop and --stride together.") from error
