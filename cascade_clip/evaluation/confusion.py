"""The confusion matrix, from which all figures of an evaluation are computed."""

from __future__ import annotations

import torch
from torch import Tensor

from cascade_clip.errors import UserError, counted
from cascade_clip.labels import IGNORED


def confusion_matrix(prediction: Tensor, label: Tensor, classes: int) -> Tensor:
    """Count pixels by true class (row) and predicted class (column): (K, K) int64 (SPEC section 12).

    Args:
        prediction: (H, W) integer, predicted class in 0..K-1 at every pixel.
        label: (H, W) integer, true class in 0..K-1 or 255 = ignored, which does not count, on the same device.
        classes: K.

    Raises:
        UserError: The maps differ in size, or the label holds a class outside 0..K-1.
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
    pairs = truth * classes + prediction[kept].long()
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
