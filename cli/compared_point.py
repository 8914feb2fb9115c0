"""Which patch `similarity` compares with: a pixel, a place, or the centre of a class."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade_clip import segmenter
from cascade_clip.analysis import similarity
from cascade_clip.data import images
from cascade_clip.errors import UserError, closest
from cascade_clip_cli.vocabulary import ClassChoice, own_classes


class ComparedPoint(NamedTuple):
    """The pixel whose patch is compared with all others, and the (H, W) mask of the class that it is the centre of."""

    point: similarity.Point
    mask: NDArray[np.bool_] | None = None


def check_point_options(
    point: str | None, fraction: str | None, class_name: str | None, label: Path | None, words: str | None
) -> None:
    """Make sure that at most one of the options names the point, and that the others belong to it.

    Raises:
        UserError: Several places at once, or a source of a class without --class.
    """
    given = {"--point": point, "--fraction": fraction, "--class": class_name}
    used = [option for option, value in given.items() if value is not None]
    if len(used) > 1:
        raise UserError(f"Give only one of {' and '.join(used)}: each says which patch is meant.")
    if class_name is None and (label is not None or words is not None):
        option = "--label" if label is not None else "--classes or --split"
        raise UserError(f"{option} needs --class NAME: it says where that class is looked up.")


def chosen_point(point: str | None, fraction: str | None, width: int, height: int) -> similarity.Point:
    """The pixel that the options name; without any, the centre of the image.

    Raises:
        UserError: Not two numbers, or a point outside of the image.
    """
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


def class_point(
    name: str, label: Path | None, pixels: NDArray[np.uint8], model: segmenter.CascadeCLIP, choice: ClassChoice | None
) -> ComparedPoint:
    """The mask of a class, predicted by the first model or read from a label map, and its centre.

    Raises:
        UserError: A class that is not among those looked for, that is not in the image, or a label map of another size.
    """
    choice = choice or own_classes(model)
    names = choice.spoken_names()
    if name not in names:
        raise UserError(f'"{name}" is none of the classes that are looked for.{closest(name, names)}')
    if label is None:
        segmentation = model.segment(pixels, choice.names, split=choice.split)[0]
        labels, found = segmentation.labels, [share.name for share in segmentation.summary()]
        source = "The model finds"
    else:
        labels = images.decode_label(label)
        found = [names[index] for index in sorted({*labels.flat}) if index < len(names)]
        source = f"{label} holds"
    if labels.shape != pixels.shape[:2]:
        raise UserError(
            f"{label} is {labels.shape[1]} x {labels.shape[0]} pixels and does not belong to an image of"
            f" {pixels.shape[1]} x {pixels.shape[0]}."
        )
    mask = labels == names.index(name)
    if not mask.any():
        raise UserError(f'{source} no "{name}" in the image.{closest(name, found)} Or give --point X,Y.')
    return ComparedPoint(similarity.centre_of_mask(mask), mask)
