"""The plain path: one window after the other, every class at every pixel. What the fast path must equal, and beat."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.optim import Optimizer

from cascade_clip.bench.model import BenchModel
from cascade_clip.config.schema import LossConfig
from cascade_clip.inference.predictor import prepare_image
from cascade_clip.inference.scores import Labels, labels_from_scores
from cascade_clip.inference.sliding_window import slide_scores
from cascade_clip.losses.focal import focal_loss
from cascade_clip.losses.targets import count_masks, one_hot_masks
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.runtime import products_in


def plain_labels(model: BenchModel, image: NDArray[np.uint8], text: Tensor, seen: Tensor) -> Labels:
    """Labels of an image (H, W, 3) uint8 from the scores of all classes at all pixels, a window at a time."""
    inference = model.recipe.inference.model_copy(update={"window_batch": 1})
    pixels = torch.from_numpy(prepare_image(image, model.recipe.data)).to(model.device)
    scores = slide_scores(
        model.network, pixels, text.to(model.device), seen.to(model.device), inference, dtype=model.dtype
    )
    return labels_from_scores(scores, (image.shape[0], image.shape[1]))


def plain_step(
    network: CascadeNetwork,
    optimizer: Optimizer,
    image: Tensor,
    labels: Tensor,
    text: Tensor,
    loss: LossConfig,
    dtype: torch.dtype,
) -> None:
    """One training step whose loss is written out over the upsampled masks of all classes (SPEC section 7).

    Args:
        network: The network, in training mode.
        optimizer: Of its trainable parameters.
        image: (B, 3, H, W) float, normalised.
        labels: (B, H, W) int64, 0..K-1 and 255.
        text: (K, C) text embeddings.
        loss: Weights of focal and dice.
        dtype: Precision of the network's products.
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
