"""Predictions of several models on labelled images, side by side with the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.catalogue import Split
from cascade_clip.data.images import decode_label, open_image
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.report.comparison import comparison_sheet
from cascade_clip.report.legend import LegendEntry
from cascade_clip.report.overlay import render_overlay
from cascade_clip.report.palette import Colour, class_colours
from cascade_clip.segmenter import CascadeCLIP

IMAGES_SHOWN = 4


def images_with_unseen_classes(
    dataset: PreparedDataset, split: Split | None, count: int = IMAGES_SHOWN
) -> tuple[int, ...]:
    """Choose the validation images with most unseen classes; the first ones of a split without any.

    Args:
        dataset: Prepared images.
        split: Says which classes are unseen.
        count: How many images.

    Returns:
        Indices into the part "val".
    """
    unseen = set(split.unseen_indices) if split else set()
    present = [unseen.intersection(dataset.read("val", i).present) for i in range(dataset.count("val"))]
    ranked = sorted(range(len(present)), key=lambda i: (-len(present[i]), i))
    return tuple(ranked[:count])


def compare_models(models: Mapping[str, CascadeCLIP], dataset: PreparedDataset, indices: Sequence[int]) -> Image.Image:
    """Draw one row an image: the image, its label, and each model's prediction; unseen classes are marked with a star.

    Args:
        models: Models by the name that heads their column, all of one split.
        dataset: Prepared images of that split.
        indices: Images of the part "val".

    Raises:
        UserError: A model that does not say which split it was trained on.
    """
    split = next(iter(models.values())).split
    if split is None:
        raise UserError("The models do not say which classes they were trained on, so they cannot be compared.")
    names = tuple(f"{name} *" if name in split.unseen else name for name in split.class_names)
    colours = class_colours(names)
    rows = []
    for index in indices:
        record = dataset.read("val", index)
        image, label = open_image(record.image_bytes), decode_label(record.label_bytes)
        predictions = [model.segment(image, split=split)[0].labels for model in models.values()]
        row = [Image.fromarray(image)]
        row += [_overlay(image, labels, names, colours) for labels in (label, *predictions)]
        rows.append(row)
    return comparison_sheet(["image", "label (* unseen class)", *models], rows)


def _overlay(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8] | NDArray[np.uint16],
    names: tuple[str, ...],
    colours: tuple[Colour, ...],
) -> Image.Image:
    shares = Segmentation(labels, np.zeros(labels.shape, np.float32), names).summary()
    legend = [LegendEntry(share.name, share.share, colours[share.index]) for share in shares]
    return render_overlay(image, labels, colours, legend)
