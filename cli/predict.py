"""`cascade-clip predict`: segment images into classes named in words."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cascade_clip_cli.options import DeviceOption, JsonOption, PrecisionOption, QuietOption, SplitOption

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cascade_clip.data.catalogue import Split
    from cascade_clip.errors import UserError
    from cascade_clip.inference.outputs import PredictionFiles
    from cascade_clip.inference.segmentation import Segmentation
    from cascade_clip.report.palette import Colour
    from cascade_clip.segmenter import CascadeCLIP

USER_MISTAKE = 2
PAPERS_CLIP = "dense:ViT-B-16-quickgelu:openai"
"""What segments when no model is named: the paper's CLIP, training-free."""
MOST_TABLES = 3
"""From more images on, each has a line instead of a table."""


class Vocabulary(NamedTuple):
    """What is looked for: either names or a split."""

    names: tuple[str, ...]
    split: Split | None


def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Files, folders or quoted globs.")],
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
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("predictions"),
    device: DeviceOption = "auto",
    precision: PrecisionOption = "fp32",
    json_file: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Segment images into the classes you name and write label map, overlay and JSON of each.

    The classes are those of --classes, --classes-file or --split; without any, those the model was trained on.

    Without --model, the paper's CLIP is used as it is, without training (downloaded on first use).

    Example: cascade-clip predict street.jpg --classes road,tree,sky
    """
    from cascade_clip_cli.console import be_quiet, show_log, stdout
    from cascade_clip_cli.tables import STDOUT, write_json

    if quiet:
        be_quiet()
    show_log()
    from cascade_clip.inference.inputs import find_images, output_stems

    vocabulary = chosen_vocabulary(classes, classes_file, split)
    paths = find_images(images)
    segmenter = _load(model, device, precision)
    names = zip(paths, output_stems(paths), strict=True)
    results = segmented_images(segmenter, list(names), vocabulary or _own_vocabulary(segmenter), output, threshold)
    outcomes = [
        _outcome(path, result, single=len(paths) == 1, brief=len(paths) > MOST_TABLES) for path, result in results
    ]
    failures = sum(outcome.shown is None for outcome in outcomes)
    if json_file != STDOUT:
        for outcome in outcomes:
            if outcome.shown is not None:
                stdout.print(outcome.shown)
        left_out = f", {failures} left out" if failures else ""
        written = len(outcomes) - failures
        stdout.print(f"{written} of {len(outcomes)} written to {output}{left_out}", highlight=False, markup=False)
    if json_file is not None:
        write_json(json_file, {"model": model, "predictions": [outcome.record for outcome in outcomes]})
    if failures:
        raise typer.Exit(USER_MISTAKE)


def chosen_vocabulary(classes: str | None, classes_file: Path | None, split: str | None) -> Vocabulary | None:
    """Read and check the classes before anything slow is loaded.

    Returns:
        The class names as given or the split; None where the user named neither.

    Raises:
        UserError: Several sources at once, an empty or repeated name, an unknown split.
    """
    from cascade_clip.clip.text import class_synonyms
    from cascade_clip.data.catalogue import get_split
    from cascade_clip.errors import UserError
    from cascade_clip.inference.inputs import read_class_file

    given = {"--classes": classes, "--classes-file": classes_file, "--split": split}
    used = [option for option, value in given.items() if value is not None]
    if len(used) > 1:
        raise UserError(f"Give only one of {' and '.join(used)}: each names the classes to look for.")
    if split is not None:
        return Vocabulary((), get_split(split))
    if classes_file is not None:
        names = read_class_file(classes_file)
    elif classes is not None:
        names = [name.strip() for name in classes.split(",")]
    else:
        return None
    class_synonyms(names)
    return Vocabulary(tuple(names), None)


class Outcome(NamedTuple):
    """What is left of one image when it is done."""

    record: dict[str, Any]
    shown: RenderableType | None
    """Its table or line; None where it could not be read."""


class Prediction(NamedTuple):
    """One image that was segmented and written."""

    source: Path
    segmentation: Segmentation
    colours: tuple[Colour, ...]
    files: PredictionFiles

    def record(self) -> dict[str, Any]:
        """What the result's JSON says of the image."""
        from cascade_clip.inference.outputs import prediction_record

        record = prediction_record(self.segmentation, self.colours, str(self.source))
        files = {name: str(path) for name, path in self.files._asdict().items()}
        return {**{key: value for key, value in record.items() if key != "names"}, "files": files}


def segmented_images(
    segmenter: CascadeCLIP,
    images: Sequence[tuple[Path, str]],
    vocabulary: Vocabulary,
    output: Path,
    threshold: float | None,
) -> Iterator[tuple[Path, Prediction | UserError]]:
    """Segment and write image after image; one that cannot be read yields its error and the others are still done.

    Args:
        segmenter: The model; the classes are embedded once.
        images: Files, and the stem of each one's output files.
        vocabulary: What is looked for.
        output: Folder to write to.
        threshold: Pixels whose best score is below it belong to no class.

    Raises:
        UserError: The vocabulary does not fit the model, or the output cannot be written.
    """
    from cascade_clip.data.images import open_image
    from cascade_clip.errors import UserError
    from cascade_clip.inference.outputs import write_prediction
    from cascade_clip.report.palette import class_colours
    from cascade_clip_cli.console import progress_bar

    words = _embedded(segmenter, vocabulary)
    known = {} if vocabulary.split is None else {entry.name: entry.colour for entry in vocabulary.split.classes}
    with progress_bar("predict") as progress:
        for done, (path, stem) in enumerate(images):
            progress(done, len(images), path.name)
            try:
                image = open_image(path)
                segmentation = segmenter.segment(image, threshold=threshold, **words)[0]
            except UserError as error:
                yield path, error
                continue
            colours = class_colours(segmentation.classes, known)
            files = write_prediction(segmentation, image, output, stem, colours, source=str(path))
            yield path, Prediction(path, segmentation, colours, files)


def _embedded(segmenter: CascadeCLIP, vocabulary: Vocabulary) -> dict[str, Any]:
    """What `segment` is given for every image; what is wrong with the words shows here, before the first image."""
    if vocabulary.split is not None:
        segmenter.text_embeddings_for(vocabulary.split)
        return {"split": vocabulary.split}
    names = [name.split("|")[0].strip() for name in vocabulary.names]
    return {"classes": names, "text_embeddings": segmenter.embed(vocabulary.names)}


def _outcome(path: Path, result: Prediction | UserError, *, single: bool, brief: bool) -> Outcome:
    """Keep of one result what is printed and written at the end; the only image's error is the command's."""
    from cascade_clip_cli.tables import prediction_line, prediction_table

    if isinstance(result, Prediction):
        show = prediction_line if brief else prediction_table
        return Outcome(result.record(), show(result.segmentation, result.colours, title=str(path)))
    if single:
        raise result
    sys.stderr.write(f"Left out: {result}\n")
    return Outcome({"image": str(path), "error": str(result)}, None)


def _own_vocabulary(segmenter: CascadeCLIP) -> Vocabulary:
    from cascade_clip.errors import UserError

    if segmenter.split is None:
        raise UserError("Say what to look for: --classes road,tree,sky or --classes-file FILE or --split NAME.")
    return Vocabulary((), segmenter.split)


def _load(model: str, device: str, precision: str) -> CascadeCLIP:
    from cascade_clip_cli.console import stderr

    with stderr.status("loading the model"):
        from cascade_clip.segmenter import CascadeCLIP

        return CascadeCLIP.from_pretrained(model, device=device, precision=precision)
