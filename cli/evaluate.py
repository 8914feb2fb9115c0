"""`cascade-clip eval`: seen and unseen scores of a checkpoint on a validation set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from cascade_clip import runtime, segmenter
from cascade_clip.config import schema
from cascade_clip.errors import UserError
from cascade_clip.evaluation import evaluate as evaluation
from cascade_clip.files import check_folder
from cascade_clip.report import evaluation_page, page
from cascade_clip_cli.compiling import compile_network
from cascade_clip_cli.console import be_quiet, progress_bar, show_log, stderr, stdout
from cascade_clip_cli.evaluation_outputs import Evaluation, show_evaluation, write_pictures_and_report, write_record
from cascade_clip_cli.launch import run_processes
from cascade_clip_cli.options import (
    CompileOption,
    DataOption,
    DeviceOption,
    JsonOption,
    OutputOption,
    PrecisionOption,
    ProcessesOption,
    QuietOption,
    SplitOption,
    StreamOption,
)
from cascade_clip_cli.tables import STDOUT

if TYPE_CHECKING:
    from accelerate import PartialState


def evaluate(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="Checkpoint folder, or ORG/NAME on the Hub.")],
    split: SplitOption = None,
    data: DataOption = None,
    stream: StreamOption = False,
    crop: Annotated[int | None, typer.Option("--crop", min=1, help="Side of the window; default: the model's.")] = None,
    stride: Annotated[int | None, typer.Option("--stride", min=1, help="Distance of windows.")] = None,
    bias: Annotated[float | None, typer.Option("--bias", min=0.0, help="Taken off the scores of seen classes.")] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Average with the mirrored image.", show_default=False)
    ] = None,
    templates: Annotated[
        str | None, typer.Option("--templates", help="Sentences for class names; default: the model's.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Only so many images, spread evenly; 0: all.")] = 0,
    nproc: ProcessesOption = 1,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    compiled: CompileOption = False,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="Write example images, confusion and per-class figures here."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write all of it as one HTML page, DIR/index.html.")
    ] = None,
    output: OutputOption = None,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Measure seen and unseen mIoU, hIoU and pixel accuracy of a checkpoint on a validation set.

    Without --split the classes the model was trained on count. The record is written as eval.json beside the
    checkpoint folder, or into --output.

    Example: cascade-clip eval runs/mine/model --split shapes-seen
    """
    if quiet:
        be_quiet()
    show_log()
    for folder, option in ((pictures, "--pictures"), (report, "--report")):
        if folder is not None:
            check_folder(folder, option)
    if pictures is not None:
        evaluation_page.check_pictures_folder(pictures)
    if report is not None:
        page.check_page(report / "index.html")
    if nproc > 1 and run_processes(nproc, device):
        return
    state, model = _load(checkpoint, device, precision)
    inference = changed_inference(model.recipe.inference, crop=crop, stride=stride, seen_bias=bias, flip=flip)
    chosen, dataset = evaluation.find_dataset(model, split, data, stream=stream)
    vocabulary = model.vocabulary(split=chosen, templates=templates)
    model.release_text_tower()
    compile_seconds = compile_network(model, vocabulary.text) if compiled else None
    with progress_bar("evaluate") as progress:
        result = evaluation.evaluate(
            model,
            chosen,
            dataset,
            inference=inference,
            templates=templates,
            limit=limit,
            progress=progress if state.is_main_process else None,
        )
    if not state.is_main_process:
        return
    record = {
        "checkpoint": checkpoint,
        **result.to_dict(),
        "precision": precision,
        "compile_seconds": compile_seconds,
    }
    done = Evaluation(model, dataset, vocabulary, result, record)
    if json_file != STDOUT:
        show_evaluation(done)
    write_record(record, checkpoint, output, json_file)
    for written in write_pictures_and_report(done, checkpoint, pictures, report):
        if json_file != STDOUT:
            stdout.print(f"Written: {written}", highlight=False, markup=False)


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


def _load(checkpoint: str, device: str, precision: str) -> tuple[PartialState, segmenter.CascadeCLIP]:
    """The place of this process among all, and the model on this process's device."""
    state, own_device = runtime.own_process(device)
    with stderr.status("loading the model"):
        return state, segmenter.CascadeCLIP.from_pretrained(checkpoint, device=own_device, precision=precision)
