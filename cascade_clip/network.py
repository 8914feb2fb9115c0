"""From image to mask on one screen: start reading here."""

from __future__ import annotations

from torch import Tensor, nn

from cascade_clip.clip.image_encoder import ImageEncoder
from cascade_clip.head.cascade import CascadeHead


class CascadeNetwork(nn.Module):
    """Image and text embeddings in, mask logits out. Knows nothing of files, commands or configuration.

    Axes: B images, K classes, C joint dimension, N = h·w patches.
    """

    def __init__(self, encoder: ImageEncoder, head: CascadeHead) -> None:
        """Join an encoder that taps at least the blocks of the head's stages with that head."""
        super().__init__()
        self.encoder = encoder
        self.head = head

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels; image sides are multiples of it."""
        return self.encoder.patch_size

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Mask logits: the sum over stages.

        Args:
            image: (B, 3, H, W) float, normalised.
            text: (K, C) text embeddings, unit vectors.

        Returns:
            (B, K, h, w), unbounded, on the grid of patches.
        """
        stages = self.stage_logits(image, text)
        total = stages[0]
        for stage in stages[1:]:
            total = total + stage
        return total

    def stage_logits(self, image: Tensor, text: Tensor) -> list[Tensor]:
        """Mask logits (B, K, h, w) of each stage, shallow to deep."""
        features = self.encoder(image)
        return [mask.unflatten(-1, features.grid) for mask in self.head(features, text.to(image.dtype))]
