"""`cascade-clip export`: a checkpoint becomes one file for onnxruntime or PyTorch's ahead-of-time tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cascade_clip import segmenter
from cascade_clip.errors import counted
from cascade_clip.export import exported_folder, runtime_speed
from cascade_clip_cli.checked_options import output_folder, path_option, place
from cascade_clip_cli.console import stderr, stdout
from cascade_clip_cli.options import JsonOption, QuietOption
from cascade_clip_cli.tables import write_json


def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CKPT", callback=place, help="Checkpoint folder, ORG/NAME on the Hub, or bundled.")
    ],
    output: Annotated[Path, path_option("--output", "-o", check=output_folder, help="Folder to write to.")],
    file_format: Annotated[str, typer.Option("--format", "-f", help="onnx, or pt2 for torch.export.load.")] = "onnx",
    text: Annotated[bool, typer.Option("--text/--no-text", help="ONNX: also the text tower and its tokenizer.")] = True,
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write a model as one file that takes images and text embeddings, any number of either.

    Its results are first compared with PyTorch's; if they differ, nothing is written.

    Example: cascade-clip export runs/mine/model --format onnx --output exported
    """
    with stderr.doing("loading the model"):
        # Before a download: a typing mistake should not cost one.
        exported_folder.check_export(output, file_format, [Path(checkpoint).expanduser()])
        model = segmenter.CascadeCLIP.from_pretrained(checkpoint, device="cpu")
    with stderr.doing(f"exporting as {file_format} and comparing with PyTorch"):
        exported = exported_folder.export_model(model, output, file_format, text=text)
    record = exported.record
    cases = [result["case"] for result in record["check"]["cases"]]
    side = record["image_side"]
    size = f"of {side} x {side} pixels" if side else f"of any size in multiples of {record['patch_size']} pixels"
    allowed = f"{record['check']['tolerance']:.0e} is allowed"
    agreement = f"differ by at most {exported.difference:.0e} of the largest, {allowed}"
    if exported.difference == 0:
        agreement = "are equal"
    images, classes = (max(case[what] for case in cases) for what in ("images", "classes"))
    for line in (
        f"Exported {checkpoint} as {record['file']}: {record['bytes'] / 1e6:.1f} MB, any number of images {size}"
        " and any number of classes.",
        f"Compared with PyTorch on {counted(len(cases), 'input')} (up to {counted(images, 'image')} and"
        f" {counted(classes, 'class')}): mask logits {agreement}.",
        f"Model: {output}",
    ):
        stdout.print(line)
    speeds = {}
    if file_format == "onnx":
        with stderr.doing("measuring the runtimes"):
            speeds = runtime_speed.runtime_speeds(model, output)
        stdout.print(runtime_speed.speed_sentence(speeds))
    if json_file is not None:
        seconds = {" ".join(name): round(value, 4) for name, value in speeds.items()}
        write_json(json_file, {**record, "seconds_a_window": seconds})
