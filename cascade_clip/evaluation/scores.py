"""The confusion matrix, and the figures of zero-shot segmentation that follow from it (SPEC section 12)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from cascade_clip.errors import UserError, counted
from cascade_clip.labels import IGNORED

FIGURES = (
    *("miou", "miou_seen", "miou_unseen", "hiou", "pixel_accuracy"),
    *("mean_accuracy", "mean_accuracy_seen", "mean_accuracy_unseen"),
)
"""Names of the figures over all classes, in the order of `Scores.to_dict`."""


@dataclass(frozen=True)
class Scores:
    """Figures of one evaluation as fractions in 0..1; NaN where a figure does not exist."""

    classes: tuple[str, ...]
    """The K class names."""
    seen: tuple[int, ...]
    """Indices of the classes that were trained with labels."""
    unseen: tuple[int, ...]
    """Indices of the classes that were not."""
    iou: tuple[float, ...]
    """Intersection over union of each class; NaN for a class in neither map, 0 for one that is only predicted."""
    accuracy: tuple[float, ...]
    """Recall of each class; NaN for a class that no label holds."""
    labelled_pixels: tuple[int, ...]
    """Labelled pixels of each class."""
    miou: float
    """Mean IoU over all classes."""
    miou_seen: float
    """Mean IoU over seen classes."""
    miou_unseen: float
    """Mean IoU over unseen classes; NaN without any."""
    hiou: float
    """Harmonic mean of `miou_seen` and `miou_unseen`; 0 where both are 0, NaN where either does not exist."""
    mean_accuracy: float
    """Mean recall over all classes."""
    mean_accuracy_seen: float
    """Mean recall over seen classes."""
    mean_accuracy_unseen: float
    """Mean recall over unseen classes."""
    pixel_accuracy: float
    """Share of labelled pixels whose class is right."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON takes them: fractions, and null for those that do not exist."""
        return {name: _or_none(getattr(self, name)) for name in FIGURES} | {
            "classes": [
                {
                    "class": name,
                    "unseen": index in self.unseen,
                    "iou": _or_none(self.iou[index]),
                    "accuracy": _or_none(self.accuracy[index]),
                    "labelled_pixels": self.labelled_pixels[index],
                }
                for index, name in enumerate(self.classes)
            ]
        }


def confusion_matrix(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Count pixels by true class (row) and predicted class (column): (K, K) int64 (SPEC section 12).

    `prediction` and `label` are (H, W) integer on one device, classes in 0..K-1, of the label also 255 = ignored, which
    does not count. Raises UserError where they differ in size, or the label holds another class.
    """
    if prediction.shape != label.shape:
        raise UserError(
            f"The label is {label.shape[1]} x {label.shape[0]} pixels but its image is "
            f"{prediction.shape[1]} x {prediction.shape[0]}. Prepare the dataset again from matching pairs."
        )
    kept = label != IGNORED
    truth = label[kept].long()
    if truth.numel() and int(truth.max()) >= classes:
        raise UserError(
            f"The label holds class {int(truth.max())}, but the split has {counted(classes, 'class')}"
            f" (0 to {classes - 1}). Evaluate with the split that the dataset was prepared for."
        )
    pairs = truth * classes + prediction[kept]
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def scores_from_confusion(
    confusion: ArrayLike, seen_indices: Iterable[int], unseen_indices: Iterable[int], class_names: Sequence[str]
) -> Scores:
    """Compute every figure from a confusion matrix, as fractions; means leave out NaN (SPEC section 12).

    `confusion` are (K, K) integer counts, row = true class, column = predicted class; seen classes were trained with
    labels, unseen ones were not (none of a fully supervised split).
    """
    counts = np.asarray(confusion, dtype=np.int64)
    seen, unseen = tuple(seen_indices), tuple(unseen_indices)
    right, labelled, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    iou = _fractions(right, labelled + predicted - right)
    accuracy = _fractions(right, labelled)
    miou_seen, miou_unseen = _mean(iou, seen), _mean(iou, unseen)
    return Scores(
        classes=tuple(class_names),
        seen=seen,
        unseen=unseen,
        iou=tuple(iou.tolist()),
        accuracy=tuple(accuracy.tolist()),
        labelled_pixels=tuple(labelled.tolist()),
        miou=_mean(iou),
        miou_seen=miou_seen,
        miou_unseen=miou_unseen,
        hiou=harmonic_mean(miou_seen, miou_unseen),
        mean_accuracy=_mean(accuracy),
        mean_accuracy_seen=_mean(accuracy, seen),
        mean_accuracy_unseen=_mean(accuracy, unseen),
        pixel_accuracy=int(right.sum()) / int(labelled.sum()) if labelled.any() else math.nan,
    )


def harmonic_mean(seen: float, unseen: float) -> float:
    """2SU / (S + U): 0 where both are 0, NaN where either is NaN."""
    return 2 * seen * unseen / (seen + unseen) if seen + unseen != 0 else 0.0


def _fractions(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    fractions = np.full(len(part), np.nan)
    np.divide(part, whole, out=fractions, where=whole > 0)
    return fractions


def _mean(values: NDArray[np.float64], indices: Sequence[int] | None = None) -> float:
    chosen = values if indices is None else values[list(indices)]
    known = chosen[~np.isnan(chosen)]
    return float(known.mean()) if len(known) else math.nan


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
