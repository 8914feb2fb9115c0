"""`cascade-clip eval`: seen and unseen scores of a checkpoint on a validation set."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cascade_clip_cli.evaluation_outputs import (
    STDOUT,
    Evaluation,
    show_evaluation,
    write_pictures_and_report,
    write_record,
)
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

if TYPE_CHECKING:
    import numpy as np
    from accelerate import PartialState
    from numpy.typing import NDArray
    from torch import Tensor

    from cascade_clip.config.schema import InferenceConfig
    from cascade_clip.data.catalogue import Split
    from cascade_clip.data.prepared import PreparedDataset
    from cascade_clip.evaluation.details import ImageResult
    from cascade_clip.segmenter import CascadeCLIP

PAIRS_RECORDED = 20
"""Pairs of confused classes that eval.json names."""


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
    from cascade_clip.files import check_folder
    from cascade_clip_cli.compiling import compile_network
    from cascade_clip_cli.console import be_quiet, show_log, stdout
    from cascade_clip_cli.launch import run_processes

    if quiet:
        be_quiet()
    show_log()
    for folder, option in ((pictures, "--pictures"), (report, "--report")):
        if folder is not None:
            check_folder(folder, option)
    if nproc > 1 and run_processes(nproc, device):
        return
    from cascade_clip.evaluation.details import most_confused
    from cascade_clip.evaluation.scores import scores_from_confusion

    state, model = _load(checkpoint, device, precision)
    inference = changed_inference(model.recipe.inference, crop=crop, stride=stride, seen_bias=bias, flip=flip)
    chosen, dataset = chosen_dataset(model, split, data, stream=stream)
    text = model.text_embeddings_for(chosen, templates=templates)
    model.release_text_tower()
    compile_seconds = compile_network(model, text) if compiled else None
    started = time.perf_counter()
    measured = _measure(state, model, text, chosen, dataset, inference, limit=limit)
    if not state.is_main_process:
        return
    scores = scores_from_confusion(measured.confusion, chosen.seen_indices, chosen.unseen_indices, chosen.class_names)
    pairs = most_confused(measured.confusion, chosen.class_names, PAIRS_RECORDED)
    record = {
        "checkpoint": checkpoint,
        "split": chosen.name,
        "dataset": dataset.name,
        "images": len(measured.images),
        "images_of_the_set": dataset.count("val"),
        "inference": inference.model_dump(mode="json"),
        "templates": templates or model.recipe.text.templates,
        "precision": precision,
        "processes": state.num_processes,
        "seconds": round(time.perf_counter() - started, 2),
        "compile_seconds": compile_seconds,
        "scores": scores.to_dict(),
        "confused": [asdict(pair) for pair in pairs],
    }
    done = Evaluation(
        model, chosen, dataset, inference, text, measured.confusion, scores, pairs, measured.images, record
    )
    if json_file != STDOUT:
        show_evaluation(done)
    write_record(record, checkpoint, output, json_file)
    for written in write_pictures_and_report(done, checkpoint, pictures, report):
        if json_file != STDOUT:
            stdout.print(f"Written: {written}", highlight=False, markup=False)


def changed_inference(inference: InferenceConfig, **changes: Any) -> InferenceConfig:
    """Put the options that were given over the recipe's.

    Raises:
        UserError: A value that does not fit, for example a stride above the crop.
    """
    from pydantic import ValidationError

    from cascade_clip.config.schema import InferenceConfig
    from cascade_clip.errors import UserError

    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return InferenceConfig.model_validate({**inference.model_dump(), **given})
    except ValidationError as error:
        reason = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise UserError(f"These windows cannot be cut: {reason}. Give --crop and --stride together.") from error


def chosen_dataset(
    model: CascadeCLIP, split: str | None, data: str | None, *, stream: bool = False
) -> tuple[Split, PreparedDataset]:
    """Find the split and its dataset: what the options say, else what the model was trained on.

    Args:
        model: Its own split counts where no other is named and the dataset in `data` has the same classes.
        split: A split by name or file.
        data: Folder of a dataset, one that holds it under its name, or an address.
        stream: Read a dataset that lies elsewhere from there.

    Raises:
        UserError: No split, no dataset, or a dataset of other classes than the split's.
    """
    from cascade_clip.data.catalogue import get_split
    from cascade_clip.data.dataset_location import locate_dataset
    from cascade_clip.data.prepared import PreparedDataset
    from cascade_clip.errors import UserError

    chosen = get_split(split) if split is not None else _split_of(model, data, stream)
    if chosen is None:
        raise UserError("The checkpoint does not say what it was trained on: give --split NAME or --data FOLDER.")
    own = model.recipe.data.dataset if model.split is not None and chosen.dataset == model.split.dataset else None
    stream = stream or (data is None and model.recipe.data.stream)
    folder = locate_dataset(chosen.dataset, data or own, stream=stream, class_names=chosen.class_names)
    dataset = PreparedDataset.open(folder)
    dataset.check_classes(chosen.class_names, chosen.name)
    return chosen, dataset


def _split_of(model: CascadeCLIP, data: str | None, stream: bool) -> Split | None:
    """The model's own split, or that of the dataset in `data` where this one has other classes."""
    from cascade_clip.config.dataset_address import is_address
    from cascade_clip.data.catalogue import split_for_dataset_folder
    from cascade_clip.data.dataset_info import INFO_FILE
    from cascade_clip.data.dataset_location import dataset_folder, holds_rows

    if data is None:
        return model.split
    place = Path(data).expanduser()
    if not (is_address(data) or (place / INFO_FILE).is_file() or holds_rows(place)):
        return model.split
    own_names = model.split.class_names if model.split is not None else None
    found = split_for_dataset_folder(dataset_folder(data, stream=stream, class_names=own_names))
    return model.split if model.split is not None and model.split.class_names == found.class_names else found


def _load(checkpoint: str, device: str, precision: str) -> tuple[PartialState, CascadeCLIP]:
    """The place of this process among all, and the model on this process's device."""
    from accelerate import PartialState

    from cascade_clip.runtime import resolve_device
    from cascade_clip.segmenter import CascadeCLIP
    from cascade_clip_cli.console import stderr

    state = PartialState(cpu=resolve_device(device).type == "cpu")
    own_device = str(state.device) if state.num_processes > 1 else device
    with stderr.status("loading the model"):
        return state, CascadeCLIP.from_pretrained(checkpoint, device=own_device, precision=precision)


class _Measured(NamedTuple):
    """What all processes together have counted."""

    confusion: NDArray[np.int64]
    images: list[ImageResult]
    """In the order of the dataset."""


def _measure(
    state: PartialState,
    model: CascadeCLIP,
    text: Tensor,
    split: Split,
    dataset: PreparedDataset,
    inference: InferenceConfig,
    *,
    limit: int,
) -> _Measured:
    """Evaluate this process's images, sum the confusion matrices of all processes and collect their images."""
    from accelerate.utils import gather_object, reduce

    from cascade_clip.evaluation.run import evaluate as evaluate_network
    from cascade_clip_cli.console import progress_bar

    results: list[ImageResult] = []
    with progress_bar("evaluate") as progress:
        confusion = evaluate_network(
            model.network,
            text,
            split,
            dataset,
            model.recipe.data,
            inference,
            device=model.device,
            dtype=model.dtype,
            rank=state.process_index,
            world=state.num_processes,
            limit=limit,
            progress=progress if state.is_main_process else None,
            results=results,
        )
    images = sorted(gather_object(results), key=lambda one: one.index)
    return _Measured(reduce(confusion, "sum").cpu().numpy(), images)
