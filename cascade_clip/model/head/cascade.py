"""The cascade: for every stage an aggregation, and queries and a decoder that read what it merged."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cascade_clip.model.clip.image_encoder import ImageFeatures


class CascadeHead(nn.Module):
    """Stages, each with its own aggregation and decoder and its own or a shared text projection (paper, Section 3)."""

    def __init__(
        self,
        stages: Sequence[Sequence[int]],
        *,
        aggregations: Sequence[nn.Module],
        text_projections: Sequence[nn.Module],
        decoders: Sequence[nn.Module],
    ) -> None:
        """Join the parts; `stages` are the blocks of each, 1-based.

        A stage has one aggregation, list of (B, N, C) -> (B, N, C), and equally many decoders, the first stage's first:
        queries (B, K, C), memory (B, N, C), grid (h, w) -> (B, K, N). One a stage is the cascade; several read the same
        merged features (paper, Table 7). Each has its text projection, (B, K, 2C) -> (B, K, C), or all share one.
        """
        super().__init__()
        self.stages = tuple(tuple(stage) for stage in stages)
        self.aggregations = nn.ModuleList(aggregations)
        self.text_projections = nn.ModuleList(text_projections)
        self.decoders = nn.ModuleList(decoders)

    def forward(self, features: ImageFeatures, text: Tensor) -> list[Tensor]:
        """Mask logits (B, K, N) of every decoder, its stages shallow to deep; their sum is the model's answer.

        `features` hold every tapped block; `text` (K, C) are text embeddings, unit vectors.
        """
        descriptor = relation_descriptor(text, features.class_token)
        memories = [
            aggregation([features.patch_tokens[block] for block in stage])
            for stage, aggregation in zip(self.stages, self.aggregations, strict=True)
        ]
        per_stage = len(self.decoders) // len(self.stages)
        masks = []
        for number, decoder in enumerate(self.decoders):
            queries = self.text_projections[number % len(self.text_projections)](descriptor)
            masks.append(decoder(queries, memories[number // per_stage], features.grid))
        return masks


def relation_descriptor(text: Tensor, class_token: Tensor) -> Tensor:
    """Relate every class to the image: T̂ = [T ⊙ g, T], (B, K, 2C), the product first (SPEC section 4).

    T (K, C) are text embeddings and g (B, C) class tokens, unit vectors.
    """
    product = text[None] * class_token[:, None]
    return torch.cat([product, text[None].expand_as(product)], dim=-1)
