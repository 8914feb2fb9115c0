"""The plain path: one window after the other, every class at every pixel. The fast path must equal it, and beat it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.optim import Optimizer

from cascade_clip.bench.measured_model import BenchModel
from cascade_clip.config.schema import LossConfig
from cascade_clip.data.images import decode_label, open_image
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.evaluation.scores import confusion_matrix
from cascade_clip.inference.class_scores import labels_from_scores
from cascade_clip.inference.predictor import prepare_image
from cascade_clip.inference.sliding_window import slide_scores
from cascade_clip.losses.focal_dice import focal_loss
from cascade_clip.losses.targets import count_masks, one_hot_masks
from cascade_clip.runtime import products_in


def plain_labels(measured: BenchModel, image: NDArray[np.uint8]) -> Tensor:
    """Labels (H, W) of an image (H, W, 3) uint8, from the scores of all classes at all pixels, a window at a time."""
    model, device = measured.model, measured.model.device
    inference = model.recipe.inference.model_copy(update={"window_batch": 1})
    pixels = torch.from_numpy(prepare_image(image, model.recipe.data, inference.training_free)).to(device)
    scores = slide_scores(
        measured.network, pixels, measured.text, measured.vocabulary.seen.to(device), inference, dtype=model.dtype
    )
    return labels_from_scores(scores, (image.shape[0], image.shape[1])).labels


def plain_confusion(measured: BenchModel, dataset: PreparedDataset) -> Tensor:
    """Confusion matrix (K, K) int64 of the dataset's training part."""
    classes, device = len(measured.text), measured.model.device
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    for index in range(dataset.count("train")):
        record = dataset.read("train", index)
        image, label = open_image(record.image_bytes, record.id), decode_label(record.label_bytes, record.id)
        confusion += confusion_matrix(plain_labels(measured, image), torch.from_numpy(label).to(device), classes)
    return confusion


def plain_step(
    network: torch.nn.Module,
    optimizer: Optimizer,
    image: Tensor,
    labels: Tensor,
    text: Tensor,
    loss: LossConfig,
    dtype: torch.dtype,
) -> None:
    """One training step whose loss is written out over the upsampled masks of all classes (SPEC section 7).

    Takes images (B, 3, H, W) float32, normalised, labels (B, H, W) int64, 0..K-1 and 255, and text embeddings (K, C);
    the network is in training mode, and `dtype` is the precision of its products.
    """
    with products_in(dtype, image.device):
        logits = network(image, text)
    full = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    targets, num_masks = one_hot_masks(labels, len(text)), max(1.0, float(count_masks(labels)))
    probability, area = full.sigmoid(), targets.sum((2, 3))
    overlap = (2 * (probability * targets).sum((2, 3)) + 1) / (probability.sum((2, 3)) + area + 1)
    dice = ((1 - overlap) * (area > 0)).sum() / num_masks
    (loss.focal * focal_loss(full, targets, num_masks) + loss.dice * dice).backward()
    optimizer.step()
    optimizer.zero_grad()
