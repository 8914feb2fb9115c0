"""Queries: text embeddings that know the image (relation descriptor)."""

from __future__ import annotations

import torch
from torch import Tensor


def relation_descriptor(text: Tensor, class_token: Tensor) -> Tensor:
    """Relate every class to the image: T̂ = [T ⊙ g, T], the product first (SPEC section 4).

    Args:
        text: T, (K, C) text embeddings, unit vectors.
        class_token: g, (B, C) class tokens of the images, unit vectors.

    Returns:
        (B, K, 2C).
    """
    product = text[None] * class_token[:, None]
    return torch.cat([product, text[None].expand_as(product)], dim=-1)
