"""`cascade-clip similarity`: how alike an image's patches are to one of them, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from cascade_clip import segmenter
from cascade_clip.analysis import observed_model
from cascade_clip.analysis import similarity as patch_similarity
from cascade_clip.data import images, mask_values
from cascade_clip.errors import UserError, closest
from cascade_clip.files import json_text
from cascade_clip.inference import prediction_files, sources
from cascade_clip.labels import LabelMap
from cascade_clip.model import network
from cascade_clip.report import map_grids, page
from cascade_clip_cli import options
from cascade_clip_cli.checked_options import as_path, input_file, path_option, place
from cascade_clip_cli.console import stderr, stdout
from cascade_clip_cli.loading import ClassChoice, chosen_classes, own_classes
from cascade_clip_cli.tables import MISSING, plain_table, right, write_json

BUNDLED = "bundled"


class ComparedPoint(NamedTuple):
    """The pixel whose patch is compared with all others, and the (H, W) mask of the class that it is the centre of."""

    point: patch_similarity.Point
    mask: NDArray[np.bool_] | None = None


def similarity(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", parser=as_path, callback=input_file, help="An image file.")],
    point: Annotated[str | None, typer.Option("--point", metavar="X,Y", help="A pixel, from the upper left.")] = None,
    fraction: Annotated[
        str | None, typer.Option("--fraction", metavar="X,Y", help="A place as fractions of width and height.")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="The centre of this class's mask.")
    ] = None,
    label: Annotated[
        Path | None,
        path_option(
            "--label", check=input_file, help="Index mask that --class is looked up in; default: the prediction."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", callback=place, help="As in predict; repeatable.", show_default=BUNDLED),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", "-c", help="Names that --class chooses from; default: the model's.")
    ] = None,
    split: options.SplitOption = None,
    output: options.OutputFolder = Path("similarity"),
    device: options.DeviceOption = "auto",
    json_file: options.JsonOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Show how similar all patches are to the patch at a point, after each block of CLIP and of trained models.

    The point is --point, --fraction, the centre of a class (--class), or the centre of the image. Writes a grid of
    maps, STEM.similarity.png, and their values, STEM.similarity.json.

    Example: cascade-clip similarity street.jpg --class tree --model runs/mine/model
    """
    _check_point_options(point, fraction, class_name, label, classes or split)
    choice = chosen_classes(classes, None, split)
    pixels = images.open_image(image)
    place = ComparedPoint(_chosen_point(point, fraction, pixels.shape[1], pixels.shape[0]))
    if class_name is not None and choice is not None:
        _check_class(class_name, choice.spoken_names())
    labels: LabelMap | None = _label_map(label, image) if label is not None else None
    names = list(dict.fromkeys(model or [BUNDLED]))
    with stderr.doing("comparing patches"):
        segmenters = {name: segmenter.CascadeCLIP.from_pretrained(name, device=device) for name in names}
        any(model.look is not None and model.look(pixels) for model in segmenters.values())
        if class_name is not None:
            place = _class_point(class_name, labels, pixels, segmenters[names[0]], choice)
        compared = _compare(segmenters, pixels, place.point)
    record = _record(image, pixels, place, class_name, compared)
    picture = output / f"{_stem(image, output)}.similarity.png"
    grid = map_grids.render_similarity_grid(pixels, place.point, compared, note=class_name or "")
    # The record is moved into place first: without it the picture would count as somebody else's.
    page.write_report({picture.with_suffix(".json"): json_text(record, indent=None).encode(), picture: grid}, "maps")
    stdout.print(_table(record))
    stdout.print(f"Written: {picture}")
    if json_file is not None:
        write_json(json_file, {**record, "files": {"picture": str(picture)}})


def _stem(image: Path, output: Path) -> str:
    """What the files are called: earlier maps of the same image are replaced, files of something else are kept."""

    def taken(stem: str, source: sources.Source) -> bool:
        endings = (prediction_files.RECORD, ".png")
        return prediction_files.is_taken(output, f"{stem}.similarity", source.name, {image.resolve()}, endings)

    return sources.output_stems([sources.source_named(str(image))], taken)[0]


def _compare(
    segmenters: dict[str, segmenter.CascadeCLIP], pixels: NDArray[np.uint8], point: patch_similarity.Point
) -> list[patch_similarity.PatchSimilarity]:
    """Each CLIP once, as it was before any training, then each trained model."""
    clips = {model.clip.identity.sha256: model for model in reversed(segmenters.values())}
    compared = []
    for model in reversed(clips.values()):
        own_look = model.recipe.data.changed(mean=model.clip.mean, std=model.clip.std)
        name = f"CLIP ({Path(model.clip.identity.architecture).name})"
        encoder = observed_model.plain_encoder(model.clip.visual)
        compared.append(patch_similarity.patch_similarity(name, encoder, pixels, point, own_look, model.device))
    for name, model in segmenters.items():
        if isinstance(model.network, network.CascadeNetwork):
            encoder = observed_model.encoder_of(model.network)
            compared.append(
                patch_similarity.patch_similarity(name, encoder, pixels, point, model.recipe.data, model.device)
            )
    return compared


def _record(
    image: Path,
    pixels: NDArray[np.uint8],
    place: ComparedPoint,
    class_name: str | None,
    compared: list[patch_similarity.PatchSimilarity],
) -> dict[str, Any]:
    models = []
    for model in compared:
        columns: dict[str, list[Any]] = {"mean": model.means()}
        if place.mask is not None:
            inside = patch_similarity.patches_of_mask(place.mask, model.cosine.shape[1:])
            columns |= {"inside": model.means(inside), "outside": model.means(~inside)}
        columns["cosine"] = [[[round(float(v), 5) for v in row] for row in values] for values in model.cosine]
        blocks = [
            {"block": number + 1, **{key: values[number] for key, values in columns.items()}}
            for number in range(len(model.cosine))
        ]
        models.append({"model": model.model, "patch": list(model.patch), "blocks": blocks})
    return {
        "image": str(image),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "point": list(place.point),
        "class": class_name,
        "models": models,
    }


def _table(record: dict[str, Any]) -> Table:
    """Mean similarity after each block: to all other patches, or to those inside and outside of the class."""
    x, y = record["point"]
    kinds = {"mean": ""} if record["class"] is None else {"inside": " inside", "outside": " outside"}
    columns = [right(f"{model['model']}{where}") for model in record["models"] for where in kinds.values()]
    table = plain_table(f"mean cosine similarity to the patch at {x},{y}", right("block"), *columns)
    for number in range(max(len(model["blocks"]) for model in record["models"])):
        values = [
            model["blocks"][number][kind] if number < len(model["blocks"]) else None
            for model in record["models"]
            for kind in kinds
        ]
        table.add_row(str(number + 1), *(MISSING if value is None else f"{value:.2f}" for value in values))
    return table


def _check_point_options(
    point: str | None, fraction: str | None, class_name: str | None, label: Path | None, words: str | None
) -> None:
    """Raise UserError where several options name the point, or the source of a class is given without --class."""
    given = {"--point": point, "--fraction": fraction, "--class": class_name}
    used = [option for option, value in given.items() if value is not None]
    if len(used) > 1:
        raise UserError(f"Give only one of {' and '.join(used)}: each says which patch is meant.")
    if class_name is None and (label is not None or words is not None):
        option = "--label" if label is not None else "--classes or --split"
        raise UserError(f"{option} needs --class NAME: it says where that class is looked up.")


def _chosen_point(point: str | None, fraction: str | None, width: int, height: int) -> patch_similarity.Point:
    """The pixel that the options name, else the centre; raises UserError for no two numbers, or a point outside."""
    if point is not None:
        try:
            x, y = (int(part) for part in point.split(","))
        except ValueError as error:
            raise UserError(f'--point "{point}" is no pixel: give two whole numbers, for example 120,80.') from error
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(
                f"--point {x},{y} lies outside of the image, whose pixels go from 0,0 to {width - 1},{height - 1}."
            )
        return x, y
    try:
        across, down = (float(part) for part in (fraction or "0.5,0.5").split(","))
    except ValueError as error:
        raise UserError(f'--fraction "{fraction}" is no place: give two numbers, for example 0.3,0.5.') from error
    if not (0 <= across <= 1 and 0 <= down <= 1):
        raise UserError(f"--fraction {fraction} lies outside of the image: both numbers are between 0 and 1.")
    return min(int(across * width), width - 1), min(int(down * height), height - 1)


def _check_class(name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise UserError(
            f'"{name}" of --class is none of the classes.{closest(name, names)} Name others with'
            " --classes A,B,… or --split NAME."
        )


def _label_map(label: Path, image: Path) -> NDArray[np.uint8]:
    """Read the index mask (H, W) of an image, turned as it is; raises UserError where it is none or of another size."""
    return mask_values.fit_label(
        images.decode_label(label),
        images.check_image(image),
        lambda: images.orientation_of(label.read_bytes()),
        str(label),
        f"its image {image}",
    ).label


def _class_point(
    name: str,
    labels: LabelMap | None,
    pixels: NDArray[np.uint8],
    model: segmenter.CascadeCLIP,
    choice: ClassChoice | None,
) -> ComparedPoint:
    """The mask of a class, predicted by the first model or read from a label map, and its centre.

    Raises UserError where the class is none of those looked for, or not in the image.
    """
    choice = choice or own_classes(model)
    names = choice.spoken_names()
    _check_class(name, names)
    if labels is None:
        segmentation = model.segment(pixels, choice.names, split=choice.split)[0]
        labels, found = segmentation.labels, [share.name for share in segmentation.summary()]
        source = "The model finds"
    else:
        found = [names[index] for index in sorted({*labels.flat}) if index < len(names)]
        source = "The mask of --label holds"
    mask = np.equal(labels, names.index(name))
    if not mask.any():
        raise UserError(f'{source} no "{name}" in the image.{closest(name, found)} Or give --point X,Y.')
    return ComparedPoint(patch_similarity.centre_of_mask(mask), mask)
