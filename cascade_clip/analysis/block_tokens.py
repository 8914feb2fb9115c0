"""The tokens after every block of an image tower, raw as the next block sees them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from cascade_clip.model.clip.image_encoder import ImageEncoder, ImageFeatures
from cascade_clip.model.network import CascadeNetwork

SINGLE = 1
"""How often CLIP itself adds its class embedding; the released Cascade-CLIP adds it twice (SPEC section 3.2)."""


@dataclass(frozen=True)
class BlockTokens:
    """What leaves each of the L blocks, before any norm or projection.

    Attributes:
        patch_tokens: L tensors (B, N, W), row by row over the grid.
        class_token: L tensors (B, W).
        grid: (h, w) of the patches, N = h·w.
        features: What the head is given: tapped blocks after norm and projection.
    """

    patch_tokens: tuple[Tensor, ...]
    class_token: tuple[Tensor, ...]
    grid: tuple[int, int]
    features: ImageFeatures


def encoder_of(network: nn.Module) -> ImageEncoder:
    """The encoder whose blocks are looked at: a trained network's own, or CLIP's where nothing was trained.

    Args:
        network: A `CascadeNetwork`, or any module that holds open_clip's image tower as `visual`.
    """
    if isinstance(network, CascadeNetwork):
        return network.encoder
    visual = network.visual
    if not isinstance(visual, VisionTransformer):
        raise TypeError(f"{type(network).__name__} holds no image tower")
    return plain_encoder(visual)


def plain_encoder(visual: VisionTransformer) -> ImageEncoder:
    """CLIP as its authors trained it, on any grid: no prompts, one class embedding, open_clip's resize of positions."""
    encoder = ImageEncoder(visual, taps=(), class_embeddings=SINGLE, position_resize="bicubic-antialias")
    return encoder.eval()


@torch.inference_mode()
def block_tokens(encoder: ImageEncoder, image: Tensor) -> BlockTokens:
    """Encode images and keep what leaves every block.

    Args:
        encoder: In evaluation mode.
        image: (B, 3, H, W) float, normalised; H and W multiples of the patch size.

    Raises:
        UserError: A side that is no multiple of the patch size.
    """
    outputs: list[Tensor] = []
    features = encoder(image, outputs)
    return BlockTokens(
        patch_tokens=tuple(tokens[:, 1:] for tokens in outputs),
        class_token=tuple(tokens[:, 0] for tokens in outputs),
        grid=features.grid,
        features=features,
    )
