"""An evaluated image as a reader sees it: image, label, prediction and errors in pictures of one size."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.images import decode_label, open_image
from cascade_clip.evaluation.confusion import confusion_matrix
from cascade_clip.evaluation.details import image_result
from cascade_clip.labels import IGNORED
from cascade_clip.report.comparison import comparison_sheet
from cascade_clip.report.error_map import STATES, error_map
from cascade_clip.report.legend import LegendEntry, legend_below
from cascade_clip.report.overlay import Labels, coloured_image
from cascade_clip.report.palette import Colour

if TYPE_CHECKING:
    from cascade_clip.data.prepared import PreparedDataset

SMALLEST, LARGEST = 384, 640
"""The longer side of a picture is brought between these."""
LEGEND_FONT = 18
Predict = Callable[[NDArray[np.uint8]], Labels]
"""Gives the (H, W) predicted class of every pixel of an (H, W, 3) uint8 image."""


@dataclass(frozen=True)
class PicturedImage:
    """An image that stands for others.

    Attributes:
        id: Its id in the dataset.
        group: "best", "median" or "worst"; empty where it was not chosen by its result.
        miou: Its own mIoU, 0..1; NaN where nothing is labelled.
        pixel_accuracy: Its own pixel accuracy, 0..1; NaN where nothing is labelled.
        image: The image, RGB.
        label: The label's classes in colours over the image, RGB; ignored pixels stay grey.
        prediction: The predicted classes in colours over the image, RGB.
        errors: Right, wrong and ignored pixels in the colours of an error map, RGB.
        classes: Name and colour of the classes in the label or the prediction, the largest first.
    """

    id: str
    group: str
    miou: float
    pixel_accuracy: float
    image: Image.Image
    label: Image.Image
    prediction: Image.Image
    errors: Image.Image
    classes: tuple[tuple[str, Colour], ...]


def picture_image(
    dataset: PreparedDataset,
    index: int,
    classes: Sequence[str],
    colours: Sequence[Colour],
    predict: Predict,
    *,
    group: str = "",
) -> PicturedImage:
    """Segment one image of the part "val" and picture it.

    Args:
        dataset: Images with labels of these classes.
        index: Which image of the part.
        classes: The K class names.
        colours: K colours.
        predict: The model.
        group: What the image is an example of.

    Raises:
        UserError: The image or its label cannot be read, or the two do not fit.
    """
    record = dataset.read("val", index)
    image = open_image(record.image_bytes, f'Image "{record.id}" of the data set')
    label = decode_label(record.label_bytes, f'The label of image "{record.id}"')
    predicted = predict(image)
    counts = confusion_matrix(torch.from_numpy(predicted.astype(np.int64)), torch.from_numpy(label), len(classes))
    result, size = image_result(record.id, index, counts), _picture_size(image.shape[1], image.shape[0])
    return PicturedImage(
        id=record.id,
        group=group,
        miou=result.miou,
        pixel_accuracy=result.pixel_accuracy,
        image=Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3),
        label=coloured_image(image, label, colours, size),
        prediction=coloured_image(image, predicted, colours, size),
        errors=error_map(image, label, predicted, size),
        classes=_visible_classes(label, predicted, classes, colours),
    )


def picture_sheet(pictured: Sequence[PicturedImage], unseen: Collection[str] = ()) -> Image.Image:
    """Lay pictured images out, one row each: image, label, prediction, errors, the figures below; then a legend.

    Args:
        pictured: At least one image.
        unseen: Names of the unseen classes, which are marked with a star.

    Returns:
        An RGB picture.
    """
    classes = dict(pair for one in pictured for pair in one.classes)
    sheet = comparison_sheet(
        ["image", "label", "prediction", "errors"],
        [(one.image, one.label, one.prediction, one.errors) for one in pictured],
        [_caption(one) for one in pictured],
    )
    named = [LegendEntry(f"{name} *" if name in unseen else name, None, colour) for name, colour in classes.items()]
    states = [LegendEntry(name, None, colour) for name, colour in STATES]
    if any(name in unseen for name in classes):
        states.append(LegendEntry("* unseen class", None, None))
    # In a panel of their own: of many classes only the first ones fit.
    return _stacked([sheet, *(legend_below(entries, sheet.width, LEGEND_FONT) for entries in (named, states))])


def _stacked(parts: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def _visible_classes(
    label: NDArray[np.uint8], predicted: Labels, classes: Sequence[str], colours: Sequence[Colour]
) -> tuple[tuple[str, Colour], ...]:
    shown = np.concatenate([label[label != IGNORED], predicted.ravel()])
    pixels = np.bincount(shown, minlength=len(classes))
    order = np.argsort(-pixels, kind="stable")
    return tuple((classes[index], colours[index]) for index in order if pixels[index])


def _caption(one: PicturedImage) -> str:
    figures = (("mIoU", one.miou), ("pixel accuracy", one.pixel_accuracy))
    known = [f"{name} {100 * value:.1f} %" for name, value in figures if not math.isnan(value)]
    return "  ·  ".join([*([one.group] if one.group else []), one.id, *(known or ["nothing labelled"])])


def _picture_size(width: int, height: int) -> tuple[int, int]:
    longest = max(width, height)
    scale = min(max(longest, SMALLEST), LARGEST) / longest
    return max(1, round(width * scale)), max(1, round(height * scale))
