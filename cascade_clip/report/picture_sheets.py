"""Sheets of pictures: evaluated images beside their labels and errors, and predictions of several models."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cascade_clip.data.catalogue import Split
from cascade_clip.data.images import decode_label, open_image
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.drawing.overlay import (
    LegendEntry,
    coloured_image,
    fitted_size,
    legend_below,
    render_overlay,
    stacked,
    wrapped,
)
from cascade_clip.drawing.palette import INK, NOT_COUNTED, PALE_INK, PAPER, RIGHT, WRONG, Colour
from cascade_clip.evaluation.confusion import confusion_matrix
from cascade_clip.evaluation.details import image_result
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.labels import IGNORED, LabelMap

SHORTEST_SIDE, LONGEST_SIDE = 384, 640
"""Range of the longer side of the pictures of an evaluated image."""
LEGEND_FONT = 18
CELL_HEIGHT = 360
MARGIN = 16
HEADING = 30
STATES: tuple[tuple[str, Colour], ...] = (("right", RIGHT), ("wrong", WRONG), ("ignored", NOT_COUNTED))
"""What a pixel can be, and its colour."""
Predict = Callable[[NDArray[np.uint8]], LabelMap]
"""Gives the (H, W) predicted class of every pixel of an (H, W, 3) uint8 image."""


@dataclass(frozen=True)
class PicturedImage:
    """An evaluated image in pictures of one size.

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
    """Lay the colours of right, wrong and ignored pixels (`STATES`) over an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) true class, 255 = ignored.
        predicted: (H, W) predicted class.
        size: Width and height of the RGB picture in pixels.
    """
    states = np.where(label == IGNORED, 2, label != predicted).astype(np.uint8)
    return coloured_image(image, states, [colour for _, colour in STATES], size)


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
        [one.caption for one in pictured],
    )
    named = [LegendEntry(f"{name} *" if name in unseen else name, None, colour) for name, colour in classes.items()]
    states = [LegendEntry(name, None, colour) for name, colour in STATES]
    if any(name in unseen for name in classes):
        states.append(LegendEntry("* unseen class", None, None))
    # In a panel of their own: of many classes only the first ones fit.
    return stacked([sheet, *(legend_below(entries, sheet.width, LEGEND_FONT) for entries in (named, states))])


def images_with_unseen_classes(dataset: PreparedDataset, split: Split, count: int = 4) -> tuple[int, ...]:
    """Indices of at most `count` images of the part "val" with most unseen classes; of equal ones the first."""
    unseen = set(split.unseen_indices)
    present = [len(unseen.intersection(dataset.read("val", i).present)) for i in range(dataset.count("val"))]
    return tuple(sorted(range(len(present)), key=lambda i: -present[i])[:count])


def compare_predictions(
    models: Mapping[str, Predict], split: Split, dataset: PreparedDataset, indices: Sequence[int]
) -> Image.Image:
    """Draw one row an image: the image, its label, and each model's prediction; unseen classes are marked with a star.

    Args:
        models: What segments an image into the classes of the split, by the name that heads its column.
        split: Class names, and which of them are unseen.
        dataset: Prepared images of that split.
        indices: Images of the part "val".

    Returns:
        An RGB picture.

    Raises:
        UserError: An image or its label cannot be read.
    """
    names = tuple(f"{name} *" if name in split.unseen else name for name in split.class_names)
    colours = split.colours

    def overlay(image: NDArray[np.uint8], labels: LabelMap) -> Image.Image:
        shares = Segmentation(labels, np.zeros(labels.shape, np.float32), names).summary()
        legend = [LegendEntry(share.name, share.share, colours[share.index]) for share in shares]
        return render_overlay(image, labels, colours, legend)

    rows = []
    for index in indices:
        record = dataset.read("val", index)
        image, label = open_image(record.image_bytes), decode_label(record.label_bytes)
        label_maps = [label, *(predict(image) for predict in models.values())]
        rows.append([Image.fromarray(image), *(overlay(image, labels) for labels in label_maps)])
    return comparison_sheet(["image", "label (* unseen class)", *models], rows)


def comparison_sheet(
    headings: Sequence[str], rows: Sequence[Sequence[Image.Image]], captions: Sequence[str] = ()
) -> Image.Image:
    """Lay pictures out in a grid under headings.

    Args:
        headings: One a column.
        rows: Pictures of any size, as many as headings in each row; each is brought to one height.
        captions: A line below each row, shortened to the width of the sheet. Empty: no lines.

    Returns:
        An RGB picture.
    """
    cells = [[_at_height(picture) for picture in row] for row in rows]
    font = ImageFont.load_default(HEADING * 2 // 3)
    columns = zip(headings, zip(*cells, strict=True), strict=True)
    widths = [max(round(font.getlength(heading)), *(cell.width for cell in column)) for heading, column in columns]
    row_height = CELL_HEIGHT + MARGIN + (HEADING if captions else 0)
    size = (sum(widths) + MARGIN * (len(widths) + 1), HEADING + MARGIN + len(cells) * row_height)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [MARGIN * (column + 1) + sum(widths[:column]) for column in range(len(widths))]
    tops = [HEADING + MARGIN + number * row_height for number in range(len(cells))]
    for left, heading in zip(lefts, headings, strict=True):
        draw.text((left, MARGIN // 2), heading, fill=INK, font=font)
    for top, row in zip(tops, cells, strict=True):
        for left, cell in zip(lefts, row, strict=True):
            sheet.paste(cell, (left, top))
    for top, caption in zip(tops, captions, strict=False):
        line = wrapped(caption, sheet.width - 2 * MARGIN, font, lines=1)[0]
        draw.text((MARGIN, top + CELL_HEIGHT + MARGIN // 4), line, fill=PALE_INK, font=font)
    return sheet


def _at_height(picture: Image.Image) -> Image.Image:
    size = (max(1, round(picture.width * CELL_HEIGHT / picture.height)), CELL_HEIGHT)
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
