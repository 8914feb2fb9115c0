"""`cascade-clip predict`: segment images into classes named in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from cascade_clip import segmenter as segmenter_module
from cascade_clip.analysis import stage_masks
from cascade_clip.errors import UserError, closest
from cascade_clip.inference import predictor as predictors
from cascade_clip.inference import sources
from cascade_clip.inference import vocabulary as vocabularies
from cascade_clip.model import dense
from cascade_clip.report import gallery as galleries
from cascade_clip.report import mask_formats
from cascade_clip.report import page as report_page
from cascade_clip_cli import options
from cascade_clip_cli.checked_options import finite, input_file, path_option, place
from cascade_clip_cli.console import stdout
from cascade_clip_cli.loading import (
    TORCH,
    background_of,
    check_runtime,
    chosen_classes,
    compile_network,
    load_model,
    mention_runtimes,
    own_classes,
)
from cascade_clip_cli.predict_images import (
    Explainer,
    Outcome,
    PredictionJob,
    check_apart,
    check_explained,
    fetched_sources,
    left_out,
    output_stems,
    segmented_images,
)
from cascade_clip_cli.predict_video import VideoOptions, check_video_options, segmented_video
from cascade_clip_cli.tables import write_json

USER_MISTAKE = 2
PAPERS_CLIP = "dense:ViT-B-16-quickgelu:openai"
"""What segments when no model is named: the paper's CLIP, training-free."""
LABELS = ("palette", "grey")
BELOW_ZERO = "Mean scores below 0: the bias on seen classes (inference.seen_bias) is taken off their scores."
MOST_WORDS = 3
MOST_TABLES = 3
"""From more images on, each has a line instead of a table."""


def predict(
    ctx: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            callback=place,
            help="Images and videos: files, folders, quoted globs, http:// or https:// addresses (up to 100 MB), or '-'"
            " for an image on standard input.",
        ),
    ],
    *,
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
        str | None, typer.Option("--classes", "-c", help='Class names, comma-separated; synonyms as "sofa|couch".')
    ] = None,
    classes_file: Annotated[
        Path | None, path_option("--classes-file", check=input_file, help="Text file, one class per line.")
    ] = None,
    split: options.SplitOption = None,
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
            help="Training-free models: pixels that fit one of these comma-separated words best belong to no class."
            " Without a value, 26 words such as sky,wall,tree. On by default for a single class.",
        ),
    ] = None,
    no_background: Annotated[
        bool, typer.Option("--no-background", help="Give every pixel a class, even if only one is asked for.")
    ] = False,
    refine: options.RefineOption = None,
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
        str | None,
        typer.Option(
            "--labels",
            help="Label maps as PNG: palette (in colours, the default) or grey (plain indices). Videos have them only"
            " if this is given, in STEM.labels/, one per segmented frame.",
        ),
    ] = None,
    scores: Annotated[
        bool,
        typer.Option(
            "--scores",
            help="Also write the scores of all classes as STEM.scores.npz, (classes, height, width) float16: 2 bytes"
            " per class and pixel.",
        ),
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Also read sub-folders; the output gets the same ones.")
    ] = False,
    gallery: Annotated[bool, typer.Option("--gallery", help="Also write index.html, a page of all images.")] = False,
    videos: VideoOptions,
    output: options.OutputFolder = Path("predictions"),
    device: options.DeviceOption = "auto",
    precision: options.PrecisionOption = "fp32",
    compiled: options.CompileOption = False,
    runtime: options.RuntimeOption = TORCH,
    json_file: options.JsonOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Segment images into the classes you name and write label map, overlay and JSON of each.

    The classes are those of --classes, --classes-file or --split; without any, those the model was trained on.

    Without --model, the paper's CLIP is used as it is, without training (downloaded on first use). Such a model scores
    each class by the synonym that fits a pixel best, as a probability against 26 background words; the other classes
    do not change it.

    A video becomes an overlay video and a JSON with the classes of every second (needs the extra `video`, PyAV).

    Example: cascade-clip predict street.jpg --classes road,tree,sky
    """
    check_runtime(runtime, precision)
    choice = chosen_classes(classes, classes_file, split)
    wanted_background = background_of(background, no_background, model, choice)
    found = sources.find_sources(images, recursive=recursive, output=output)
    if gallery:
        report_page.check_page(output / "index.html")
    writers = mask_formats.mask_writers(formats)
    if labels is not None and labels not in LABELS:
        raise UserError(f'--labels "{labels}" is not known.{closest(labels, LABELS)}')
    wanted = [name.strip() for name in (explain_classes or "").split(",") if name.strip()]
    if choice is not None:
        check_explained(wanted, choice.spoken_names())
    explain = explain or explain_classes is not None
    of_images = {"--explain": explain, "--format": bool(writers), "--scores": scores, "--gallery": gallery}
    check_video_options(videos, found, [option for option, given in of_images.items() if given])
    read, failed = fetched_sources(found, Path(ctx.with_resource(TemporaryDirectory())))
    check_apart(json_file, read, output)
    segmenter = load_model(model, runtime, device, precision)
    mention_runtimes(segmenter, model, len(read))
    if explain:
        stage_masks.network_with_stages(segmenter.network, model)
    choice = choice or own_classes(segmenter)
    vocabulary = segmenter.vocabulary(choice.names, split=choice.split, background=wanted_background)
    predictor = segmenter.predictor(refine=refine)
    segmenter.release_text_tower()
    explainer = Explainer(predictor, vocabulary, wanted) if explain else None
    if compiled:
        compile_network(segmenter, vocabulary.text)
    masks = [writer(output, vocabulary.names, vocabulary.colours) for writer in writers]
    single, brief = len(found) == 1, len(read) > MOST_TABLES
    job = PredictionJob(predictor, vocabulary, output, threshold, explainer, masks, labels, scores, single, brief)
    outcomes = failed + _outcomes(job, read, videos)
    images_done = [outcome.record for outcome in outcomes if "image" in outcome.record]
    files = {source.name: source.path for source in read}
    pages = [galleries.write_gallery(output, images_done, files=files)] if gallery else []
    pages += [writer.finish() for writer in masks if images_done]
    about = _training_free_facts(segmenter, vocabulary, predictor)
    _show(outcomes, output, pages, {"model": model, **about}, json_file)
    if any(outcome.shown is None for outcome in outcomes):
        raise typer.Exit(USER_MISTAKE)


def _outcomes(job: PredictionJob, read: Sequence[sources.Source], options: VideoOptions) -> list[Outcome]:
    """Do all images, then all videos."""
    stems = output_stems(read, job.output, mask_formats.MASK_FORMATS if job.masks else ())
    outcomes = [*segmented_images(job, [each for each in stems.items() if not sources.is_video(each[0].path)])]
    for source in (source for source in read if sources.is_video(source.path)):
        try:
            outcomes.append(segmented_video(job, source, stems[source], options))
        except UserError as error:
            outcomes.append(left_out("video", source, error, single=job.single))
    return outcomes


def _training_free_facts(
    segmenter: segmenter_module.CascadeCLIP, vocabulary: vocabularies.Vocabulary, predictor: predictors.Predictor
) -> dict[str, Any]:
    """What the result says of a training-free model: its method, refinement and background; of others nothing."""
    network, free = segmenter.network, predictor.inference.training_free
    if not isinstance(network, dense.DenseNetwork) or free is None:
        return {}
    words = list(vocabulary.background)
    return {"method": network.method.title, "refined": bool(free.pamr_steps), "background": words}


def _method_line(about: dict[str, Any]) -> str:
    """The method of a training-free model and its background in a sentence."""
    refined, words = " with PAMR" if about["refined"] else "", about["background"]
    line = f"{about['method']}{refined} (training-free, {about['model']})"
    shown = ", ".join(words[:MOST_WORDS]) + (", …" if len(words) > MOST_WORDS else "")
    if words:
        line += f"; pixels that fit a background word best ({shown}) get no class; --no-background gives them one"
    return line


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
    stdout.print(f"{len(outcomes) - failures} of {len(outcomes)} written to {output}{left}")
    for page in pages:
        stdout.print(f"also {page}")
    files = [outcome.record.get("files", {}) for outcome in outcomes]
    if sizes := [Path(each["scores"]).stat().st_size for each in files if "scores" in each]:
        stdout.print(f"also the scores of all classes, {sum(sizes) / 1e6:,.1f} MB")
    if json_file is not None:
        write_json(json_file, {**about, "predictions": [outcome.record for outcome in outcomes]})
