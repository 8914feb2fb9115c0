"""Sheets of pictures: evaluated images beside their labels and errors, and predictions of several models."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.catalogue import Split
from cascade_clip.data.images import decode_label, open_image
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.drawing.overlay import LegendEntry, coloured_image, comparison_sheet, fitted_size, legend_of
from cascade_clip.drawing.palette import NOT_COUNTED, RIGHT, WRONG, Colour
from cascade_clip.evaluation.details import image_result
from cascade_clip.evaluation.scores import confusion_matrix
from cascade_clip.labels import IGNORED, LabelMap

SHORTEST_SIDE, LONGEST_SIDE = 384, 640
"""Range of the longer side of the pictures of an evaluated image."""
STATES: tuple[tuple[str, Colour], ...] = (("right", RIGHT), ("wrong", WRONG), ("ignored", NOT_COUNTED))
Predict = Callable[[NDArray[np.uint8]], LabelMap]
"""Gives the (H, W) predicted class of every pixel of an (H, W, 3) uint8 image."""


@dataclass(frozen=True)
class PicturedImage:
    """An evaluated image in RGB pictures of one size: itself, label and prediction in colours over it, and an error
    map.

    `group` is "best", "median" or "worst", empty where it was not chosen by its result; its own mIoU and pixel accuracy
    are 0..1, NaN where nothing is labelled; `classes` are name and colour of those in the label or the prediction, the
    largest first.
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

    @property
    def caption(self) -> str:
        """Its group, id and figures in one line."""
        figures = (("mIoU", self.miou), ("pixel accuracy", self.pixel_accuracy))
        known = [f"{name} {100 * value:.1f} %" for name, value in figures if not math.isnan(value)]
        return "  ·  ".join([*([self.group] if self.group else []), self.id, *(known or ["nothing labelled"])])


def picture_image(
    dataset: PreparedDataset,
    index: int,
    classes: Sequence[str],
    colours: Sequence[Colour],
    predict: Predict,
    *,
    group: str = "",
) -> PicturedImage:
    """Segment one image of the part "val", labelled with K classes of these names and colours, and picture it.

    `group` is what the image is an example of. Raises UserError: the image or its label cannot be read, or they do not
    fit.
    """
    record = dataset.read("val", index)
    image = open_image(record.image_bytes, f'Image "{record.id}" of the dataset')
    label = decode_label(record.label_bytes, f'The label of image "{record.id}"')
    predicted = predict(image)
    counts = confusion_matrix(torch.from_numpy(predicted.astype(np.int64)), torch.from_numpy(label), len(classes))
    result, size = image_result(record.id, index, counts), fitted_size(image, SHORTEST_SIDE, LONGEST_SIDE)
    pixels = np.bincount(np.concatenate([label[label != IGNORED], predicted.ravel()]), minlength=len(classes))
    return PicturedImage(
        id=record.id,
        group=group,
        miou=result.miou,
        pixel_accuracy=result.pixel_accuracy,
        image=Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3),
        label=coloured_image(image, label, colours, size),
        prediction=coloured_image(image, predicted, colours, size),
        errors=error_map(image, label, predicted, size),
        classes=tuple((classes[i], colours[i]) for i in np.argsort(-pixels, kind="stable") if pixels[i]),
    )


def error_map(
    image: NDArray[np.uint8], label: NDArray[np.uint8], predicted: LabelMap, size: tuple[int, int]
) -> Image.Image:
    """Lay the colours of right, wrong and ignored pixels (`STATES`) over an image (H, W, 3) uint8 RGB.

    The true class (H, W) is 255 where it is ignored; `size` is width and height of the RGB picture in pixels.
    """
    states = np.where(label == IGNORED, 2, label != predicted).astype(np.uint8)
    return coloured_image(image, states, [colour for _, colour in STATES], size)


def picture_sheet(pictured: Sequence[PicturedImage], unseen: Collection[str] = ()) -> Image.Image:
    """Lay pictured images out, one row each: image, label, prediction, errors, the figures below; then a legend; RGB.

    Names of unseen classes are marked with a star.
    """
    classes = dict(pair for one in pictured for pair in one.classes)
    named = [LegendEntry(f"{name} *" if name in unseen else name, None, colour) for name, colour in classes.items()]
    states = [LegendEntry(name, None, colour) for name, colour in STATES]
    if any(name in unseen for name in classes):
        states.append(LegendEntry("* unseen class", None, None))
    return comparison_sheet(
        ["image", "label", "prediction", "errors"],
        [(one.image, one.label, one.prediction, one.errors) for one in pictured],
        [[one.caption] for one in pictured],
        legends=[named, states],
    )


def images_with_unseen_classes(dataset: PreparedDataset, split: Split, count: int = 4) -> tuple[int, ...]:
    """Indices of at most `count` images of the part "val" with most unseen classes; of equal ones the first."""
    unseen = set(split.unseen_indices)
    present = [len(unseen.intersection(dataset.read("val", i).present)) for i in range(dataset.count("val"))]
    return tuple(sorted(range(len(present)), key=lambda i: -present[i])[:count])


def compare_predictions(
    models: Mapping[str, Predict], split: Split, dataset: PreparedDataset, indices: Sequence[int]
) -> Image.Image:
    """Draw one row for each of these images of the part "val": image, label, and each model's prediction; RGB.

    The models stand under their names; unseen classes of the split are marked with a star. Raises UserError: an image
    or its label cannot be read.
    """
    rows, pixels = [], np.zeros(len(split.classes), np.int64)
    for index in indices:
        record = dataset.read("val", index)
        image, label = open_image(record.image_bytes), decode_label(record.label_bytes)
        size = fitted_size(image, SHORTEST_SIDE, LONGEST_SIDE)
        label_maps = [label, *(predict(image) for predict in models.values())]
        rows.append(
            [Image.fromarray(image), *(coloured_image(image, each, split.colours, size) for each in label_maps)]
        )
        for each in label_maps:
            pixels += np.bincount(each[each != IGNORED], minlength=len(pixels))
    legend = legend_of(split.class_names, split.colours, pixels, split.unseen)
    return comparison_sheet(["image", "label (* unseen class)", *models], rows, legends=[legend])
