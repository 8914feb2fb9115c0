"""`cascade-clip predict`: segment images into classes named in words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade_clip import segmenter as segmenter_module
from cascade_clip.analysis import stage_masks
from cascade_clip.errors import UserError, closest
from cascade_clip.export import exported_folder
from cascade_clip.inference import inputs, video
from cascade_clip.inference import predictor as predictors
from cascade_clip.inference import vocabulary as vocabularies
from cascade_clip.model import dense
from cascade_clip.report import gallery as galleries
from cascade_clip.report import mask_formats, palette, prediction
from cascade_clip.report import page as report_page
from cascade_clip_cli.checked_options import as_path, finite, input_file, place
from cascade_clip_cli.compiling import compile_network
from cascade_clip_cli.console import be_quiet, show_log, stderr, stdout
from cascade_clip_cli.explanation import Explainer, check_explained
from cascade_clip_cli.options import (
    CompileOption,
    DeviceOption,
    JsonOption,
    OutputFolder,
    PrecisionOption,
    QuietOption,
    RefineOption,
    SplitOption,
)
from cascade_clip_cli.predict_images import Outcome, PredictionJob, image_outcome, left_out, segmented_images
from cascade_clip_cli.predict_video import VideoOptions, check_video_options, segmented_video
from cascade_clip_cli.tables import write_json
from cascade_clip_cli.vocabulary import background_of, chosen_classes, own_classes

USER_MISTAKE = 2
RUNTIMES = ("torch", "onnx")
PAPERS_CLIP = "dense:ViT-B-16-quickgelu:openai"
"""What segments when no model is named: the paper's CLIP, training-free."""
LABELS = ("palette", "grey")
BELOW_ZERO = "Mean scores below 0: the bias on seen classes (inference.seen_bias) is taken off their scores."
MOST_WORDS = 3
"""So many words of the background are shown."""
MOST_TABLES = 3
"""From more images on, each has a line instead of a table."""


def predict(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE", callback=place, help="Images and videos: files, folders or quoted globs."),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            callback=place,
            help="Checkpoint folder, ORG/NAME on the Hub, or dense:CLIP (training-free).",
        ),
    ] = PAPERS_CLIP,
    classes: Annotated[
        str | None, typer.Option("--classes", "-c", help='Names, comma-separated; synonyms as "sofa|couch".')
    ] = None,
    classes_file: Annotated[
        Path | None,
        typer.Option("--classes-file", parser=as_path, callback=input_file, help="Text file, one class a line."),
    ] = None,
    split: SplitOption = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0.0,
            max=1.0,
            callback=finite,
            help="Pixels whose best score is below it belong to no class.",
        ),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            "--background",
            metavar="[WORDS]",
            help="Training-free models: pixels that one of these words fits best belong to no class. Comma-separated;"
            " without words 26 such as sky,wall,tree. On by default for a single class.",
        ),
    ] = None,
    no_background: Annotated[
        bool, typer.Option("--no-background", help="Every pixel belongs to a class, also to a single one.")
    ] = False,
    refine: RefineOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also draw what each stage of the cascade sees of the largest classes.")
    ] = False,
    explain_classes: Annotated[
        str | None, typer.Option("--explain-classes", metavar="A,B", help="Explain these classes.")
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option("--format", metavar="A,B", help="Also write all masks as coco, yolo, cvat or labelstudio."),
    ] = None,
    labels: Annotated[
        str, typer.Option("--labels", help="Label maps as palette (in colours) or grey (plain indices) PNG.")
    ] = "palette",
    gallery: Annotated[bool, typer.Option("--gallery", help="Also write index.html, a page of all images.")] = False,
    every: Annotated[int, typer.Option("--every", min=1, help="Videos: segment every so many frames.")] = 1,
    start: Annotated[
        float, typer.Option("--start", min=0.0, callback=finite, help="Videos: second to start at.")
    ] = 0.0,
    end: Annotated[
        float | None, typer.Option("--end", min=0.0, callback=finite, help="Videos: second to end before.")
    ] = None,
    output: OutputFolder = Path("predictions"),
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

    Without --model, the paper's CLIP is used as it is, without training (downloaded on first use). Of synonyms such a
    model takes the one that fits a pixel best; its scores are probabilities against 26 background words, whatever the
    other classes.

    A video becomes an overlay video and a JSON with the classes of every second (needs the extra `video`, PyAV).

    Example: cascade-clip predict street.jpg --classes road,tree,sky
    """
    if quiet:
        be_quiet()
    show_log()
    choice = chosen_classes(classes, classes_file, split)
    wanted_background = background_of(background, no_background, model, choice)
    paths = inputs.find_images(images)
    if gallery:
        report_page.check_page(output / "index.html")
    options = VideoOptions(every, start, end)
    explain = explain or explain_classes is not None
    check_video_options(options, paths, explain=explain)
    writers = _writers(formats)
    if labels not in LABELS:
        raise UserError(f'--labels "{labels}" is not known.{closest(labels, LABELS)}')
    wanted = [name.strip() for name in (explain_classes or "").split(",") if name.strip()]
    if choice is not None:
        check_explained(wanted, choice.spoken_names())
    segmenter = _load(model, device, precision, runtime)
    if explain:
        stage_masks.network_with_stages(segmenter.network, model)
    choice = choice or own_classes(segmenter)
    vocabulary, predictor = choice.embedded(segmenter, wanted_background), segmenter.predictor(refine=refine)
    segmenter.release_text_tower()
    explainer = Explainer(predictor, vocabulary, wanted) if explain else None
    if compiled:
        compile_network(segmenter, vocabulary.text)
    known = choice.known_colours()
    colours = palette.class_colours(vocabulary.names, known)
    masks = [writer(output, vocabulary.names, colours) for writer in writers]
    grey = labels == "grey"
    job = PredictionJob(predictor, vocabulary, known, output, threshold, explainer, masks=masks, grey=grey)
    outcomes = _outcomes(job, paths, options)
    images_done = [outcome.record for outcome in outcomes if "image" in outcome.record]
    pages = [galleries.write_gallery(output, images_done)] if gallery else []
    pages += [writer.finish() for writer in masks if images_done]
    about = training_free_facts(segmenter, vocabulary, predictor)
    _show(outcomes, output, pages, {"model": model, **about}, json_file)
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


def training_free_facts(
    segmenter: segmenter_module.CascadeCLIP, vocabulary: vocabularies.Vocabulary, predictor: predictors.Predictor
) -> dict[str, Any]:
    """What the result says of a training-free model: its method, refinement and background; of others nothing."""
    network, free = segmenter.network, predictor.inference.training_free
    if not isinstance(network, dense.DenseNetwork) or free is None:
        return {}
    return {
        "method": network.method.title,
        "refined": bool(free.pamr_steps),
        "background": list(vocabulary.background),
    }


def _method_line(about: dict[str, Any]) -> str:
    """The method of a training-free model and its background in a sentence."""
    refined, words = " with PAMR" if about["refined"] else "", about["background"]
    line = f"{about['method']}{refined} (training-free, {about['model']})"
    if not words:
        return line
    shown = ", ".join(words[:MOST_WORDS]) + (", …" if len(words) > MOST_WORDS else "")
    return f"{line}; pixels that a background word fits best ({shown}) belong to no class, with --no-background they do"


def _stems(paths: Sequence[Path], output: Path) -> dict[Path, str]:
    """The stem of each file's predictions: an earlier one of the same file is replaced, another's files are kept."""
    read = {Path(os.path.realpath(path)) for path in paths}
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
    stderr.print(line, soft_wrap=True)


def _show(
    outcomes: Sequence[Outcome], output: Path, pages: Sequence[Path], about: dict[str, Any], json_file: Path | None
) -> None:
    if "method" in about:
        stdout.print(_method_line(about))
    for outcome in outcomes:
        if outcome.shown is not None:
            stdout.print(outcome.shown)
    means = [each.get("mean_score", 0) for outcome in outcomes for each in outcome.record.get("classes", [])]
    if min(means, default=0) < 0:
        stdout.print(BELOW_ZERO)
    failures = sum(outcome.shown is None for outcome in outcomes)
    left = f", {failures} left out" if failures else ""
    written = len(outcomes) - failures
    stdout.print(f"{written} of {len(outcomes)} written to {output}{left}")
    for page in pages:
        stdout.print(f"also {page}")
    if json_file is not None:
        write_json(json_file, {**about, "predictions": [outcome.record for outcome in outcomes]})


def _writers(formats: str | None) -> list[type[mask_formats.MaskWriter]]:
    """Look up the formats that `--format` names."""
    known = mask_formats.MASK_FORMATS
    names = [name.strip() for name in formats.split(",")] if formats is not None else []
    for name in names:
        if name not in known:
            raise UserError(f'--format "{name}" is not known.{closest(name, known)}')
    return [known[name] for name in dict.fromkeys(names)]


def _load(model: str, device: str, precision: str, runtime: str) -> segmenter_module.CascadeCLIP:
    if runtime not in RUNTIMES:
        raise UserError(f'"{runtime}" is no runtime.{closest(runtime, RUNTIMES)}')
    with stderr.doing("loading the model"):
        if runtime == "onnx":
            return exported_folder.load_exported(model, device=device, precision=precision)
        return segmenter_module.CascadeCLIP.from_pretrained(model, device=device, precision=precision)
