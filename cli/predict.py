"""`cascade-clip predict`: segment images into classes named in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cascade_clip import segmenter as segmenter_module
from cascade_clip.analysis import stage_masks
from cascade_clip.errors import UserError, closest
from cascade_clip.export import exported_folder
from cascade_clip.inference import inputs, video
from cascade_clip.report import gallery as galleries
from cascade_clip.report import page as pages
from cascade_clip.report import prediction
from cascade_clip_cli.compiling import compile_network
from cascade_clip_cli.console import be_quiet, show_log, stderr, stdout
from cascade_clip_cli.explanation import Explainer
from cascade_clip_cli.options import CompileOption, DeviceOption, JsonOption, PrecisionOption, QuietOption, SplitOption
from cascade_clip_cli.predict_images import Outcome, PredictionJob, image_outcome, left_out, segmented_images
from cascade_clip_cli.predict_video import VideoOptions, check_video_options, segmented_video
from cascade_clip_cli.tables import STDOUT, write_json
from cascade_clip_cli.vocabulary import chosen_classes, own_classes

USER_MISTAKE = 2
RUNTIMES = ("torch", "onnx")
PAPERS_CLIP = "dense:ViT-B-16-quickgelu:openai"
"""What segments when no model is named: the paper's CLIP, training-free."""
MOST_TABLES = 3
"""From more images on, each has a line instead of a table."""


def predict(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Images and videos: files, folders or quoted globs.")
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Checkpoint folder, ORG/NAME on the Hub, or dense:CLIP (training-free)."),
    ] = PAPERS_CLIP,
    classes: Annotated[
        str | None, typer.Option("--classes", "-c", help='Names, comma-separated; synonyms as "sofa|couch".')
    ] = None,
    classes_file: Annotated[Path | None, typer.Option("--classes-file", help="Text file, one class a line.")] = None,
    split: SplitOption = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0.0, max=1.0, help="Pixels whose best score is below it belong to no class."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also draw what each stage of the cascade sees of the largest classes.")
    ] = False,
    explain_classes: Annotated[
        str | None, typer.Option("--explain-classes", metavar="A,B", help="Explain these classes.")
    ] = None,
    gallery: Annotated[bool, typer.Option("--gallery", help="Also write index.html, a page of all images.")] = False,
    every: Annotated[int, typer.Option("--every", min=1, help="Videos: segment every so many frames.")] = 1,
    start: Annotated[float, typer.Option("--start", min=0.0, help="Videos: second to start at.")] = 0.0,
    end: Annotated[float | None, typer.Option("--end", min=0.0, help="Videos: second to end before.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("predictions"),
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    compiled: CompileOption = False,
    runtime: Annotated[
        str, typer.Option("--runtime", help="torch, or onnx for a model that `export --format onnx` wrote.")
    ] = "torch",
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Segment images into the classes you name and write label map, overlay and JSON of each.

    The classes are those of --classes, --classes-file or --split; without any, those the model was trained on.

    Without --model, the paper's CLIP is used as it is, without training (downloaded on first use).

    A video becomes an overlay video and a JSON with the classes of every second (needs the extra `video`, PyAV).

    Example: cascade-clip predict street.jpg --classes road,tree,sky
    """
    if quiet:
        be_quiet()
    show_log()
    choice = chosen_classes(classes, classes_file, split)
    paths = inputs.find_images(images)
    if gallery:
        pages.check_page(output / "index.html")
    options = VideoOptions(every, start, end)
    explain = explain or explain_classes is not None
    check_video_options(options, paths, explain=explain)
    segmenter = _load(model, device, precision, runtime)
    if explain:
        stage_masks.network_with_stages(segmenter.network, model)
    choice = choice or own_classes(segmenter)
    vocabulary, predictor = choice.embedded(segmenter), segmenter.predictor()
    segmenter.release_text_tower()
    wanted = [name.strip() for name in (explain_classes or "").split(",") if name.strip()]
    explainer = Explainer(predictor, vocabulary, wanted) if explain else None
    if compiled:
        compile_network(segmenter, vocabulary.text)
    job = PredictionJob(predictor, vocabulary, choice.known_colours(), output, threshold, explainer)
    outcomes = _outcomes(job, paths, options)
    images_done = [outcome.record for outcome in outcomes if "image" in outcome.record]
    page = galleries.write_gallery(output, images_done) if gallery else None
    _show(outcomes, output, page, model, json_file)
    if any(outcome.shown is None for outcome in outcomes):
        raise typer.Exit(USER_MISTAKE)


def _outcomes(job: PredictionJob, paths: Sequence[Path], options: VideoOptions) -> list[Outcome]:
    """Do all images, then all videos."""
    stems = _stems(paths, job.output)
    single, brief = len(paths) == 1, len(paths) > MOST_TABLES
    images = [(path, stem) for path, stem in stems.items() if not video.is_video(path)]
    outcomes = [
        image_outcome(path, result, single=single, brief=brief) for path, result in segmented_images(job, images)
    ]
    for path in filter(video.is_video, paths):
        try:
            outcomes.append(segmented_video(job, path, stems[path], options))
        except UserError as error:
            outcomes.append(left_out("video", path, error, single=single))
    return outcomes


def _stems(paths: Sequence[Path], output: Path) -> dict[Path, str]:
    """The stem of each file's predictions: an earlier one of the same file is replaced, another's files are kept."""
    read = {path.resolve() for path in paths}
    longer: list[Path] = []

    def taken(stem: str, path: Path) -> bool:
        if not prediction.is_taken(output, stem, path, read):
            return False
        longer.append(path)
        return True

    stems = dict(zip(paths, inputs.output_stems(paths, taken), strict=True))
    replaced = sum((output / f"{stem}{prediction.RECORD}").exists() for stem in stems.values())
    if replaced:
        notice(f"Earlier predictions of the same images in {output} are replaced: {replaced}.")
    if longer:
        one = longer[0]
        others = f", and {len(set(longer)) - 1} more likewise" if len(set(longer)) > 1 else ""
        notice(f'{output} holds files of something else called "{one.stem}": {one} becomes {stems[one]}{others}.')
    return stems


def notice(line: str) -> None:
    """Tell on stderr what a user may not expect; a script that asks for results only does not get it."""
    stderr.print(line, markup=False, highlight=False, soft_wrap=True)


def _show(outcomes: Sequence[Outcome], output: Path, page: Path | None, model: str, json_file: Path | None) -> None:
    if json_file != STDOUT:
        for outcome in outcomes:
            if outcome.shown is not None:
                stdout.print(outcome.shown)
        failures = sum(outcome.shown is None for outcome in outcomes)
        left = f", {failures} left out" if failures else ""
        written = len(outcomes) - failures
        stdout.print(f"{written} of {len(outcomes)} written to {output}{left}", highlight=False, markup=False)
        if page is not None:
            stdout.print(f"gallery: {page}", highlight=False, markup=False)
    if json_file is not None:
        write_json(json_file, {"model": model, "predictions": [outcome.record for outcome in outcomes]})


def _load(model: str, device: str, precision: str, runtime: str) -> segmenter_module.CascadeCLIP:
    if runtime not in RUNTIMES:
        raise UserError(f'"{runtime}" is no runtime.{closest(runtime, RUNTIMES)}')
    with stderr.status("loading the model"):
        if runtime == "onnx":
            return exported_folder.load_exported(model, device=device, precision=precision)
        return segmenter_module.CascadeCLIP.from_pretrained(model, device=device, precision=precision)
