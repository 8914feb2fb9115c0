"""Beyond the confusion matrix: the figures of single images, and which classes are taken for which."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascade_clip.evaluation.scores import scores_from_confusion

GROUPS = ("best", "median", "worst")
"""Groups of example images."""


@dataclass(frozen=True)
class ImageResult:
    """Figures of one image.

    Attributes:
        id: Its id in the dataset.
        index: Its place in the part that was evaluated.
        miou: Mean IoU over the classes in its label or its prediction, 0..1; NaN where nothing is labelled.
        pixel_accuracy: Share of its labelled pixels whose class is right, 0..1; NaN where nothing is labelled.
    """

    id: str
    index: int
    miou: float
    pixel_accuracy: float


@dataclass(frozen=True)
class ConfusedPair:
    """A class that is taken for another one, in how many pixels, and their share (0..1) of the true class's pixels."""

    true: str
    predicted: str
    pixels: int
    share: float


def image_result(identifier: str, index: int, confusion: ArrayLike) -> ImageResult:
    """Figures of one image from its own (K, K) confusion matrix, row = true class, column = predicted class.

    Classes that are neither in the label nor in the prediction do not count; one that is only predicted counts as 0, as
    over a whole set (SPEC section 12).
    """
    counts = np.asarray(confusion, dtype=np.int64)
    scores = scores_from_confusion(counts, range(len(counts)), (), [""] * len(counts))
    return ImageResult(identifier, index, scores.miou, scores.pixel_accuracy)


def most_confused(confusion: ArrayLike, classes: Sequence[str], count: int) -> list[ConfusedPair]:
    """At most `count` pairs of classes that are confused in most pixels, the most first; equal ones in their order.

    `confusion` are (K, K) integer counts, row = true class, column = predicted class; each pair has at least one pixel.
    """
    wrong = np.array(confusion, dtype=np.int64)
    labelled = wrong.sum(axis=1)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(position), len(classes)) for position in order]
    return [
        ConfusedPair(classes[true], classes[other], int(wrong[true, other]), float(wrong[true, other] / labelled[true]))
        for true, other in pairs
        if wrong[true, other] > 0
    ]


def example_images(results: Sequence[ImageResult], count: int) -> dict[str, list[ImageResult]]:
    """Choose the best, median and worst images by their own mIoU.

    Of each at most `count`, and no image twice, so that few images give fewer; those without a labelled pixel are left
    out. Gives "best" (the best first), "median" (the better first) and "worst" (the worst first).
    """
    ranked = sorted((one for one in results if not math.isnan(one.miou)), key=lambda one: -one.miou)
    each = min(count, -(-len(ranked) // 3))
    best, rest = ranked[:each], ranked[each:]
    worst, middle = rest[::-1][:each], rest[: max(0, len(rest) - each)]
    first = (len(middle) - each) // 2 if len(middle) > each else 0
    return dict(zip(GROUPS, (best, middle[first : first + each], worst), strict=True))


def largest_classes(confusion: NDArray[np.int64], count: int) -> tuple[int, ...]:
    """Indices of the classes with most labelled pixels, the largest first; classes without any are left out."""
    labelled = confusion.sum(axis=1)
    order = np.argsort(-labelled, kind="stable")[:count]
    return tuple(int(index) for index in order if labelled[index] > 0)
