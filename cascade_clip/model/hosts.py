"""Hosts: what the cascade is built on. A host has its own encoder, decoder and loss beside the focal loss.

`cascade_clip.extensions.HOSTS` names them; another package can add one through an entry point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from open_clip.transformer import VisionTransformer
from torch import nn

from cascade_clip.config.schema import DecoderConfig, ModelConfig
from cascade_clip.model.clip.image_encoder import ImageEncoder
from cascade_clip.model.clip.prompts import SpectralPrompt, VisualPrompts
from cascade_clip.model.head.decoder import TextImageDecoder
from cascade_clip.model.head.frequency_decoder import RELEASED_HEADS, FrequencyDecoder


@dataclass(frozen=True)
class Host:
    """What a host decides.

    Attributes:
        encoder: Builds the encoder on an image tower; blocks of all stages are tapped (see `encoder_on`).
        decoder: Builds a decoder from its settings, the joint dimension C and the number of heads: queries (B, K, C),
            memory (B, N, C), grid (h, w) -> mask logits (B, K, N).
        region_loss: Loss beside the focal loss, unless the recipe names one.
        heads: Attention heads for a joint dimension, unless the recipe says how many; by default one for 64 channels.
    """

    encoder: Callable[[ModelConfig, VisionTransformer], ImageEncoder]
    decoder: Callable[[DecoderConfig, int, int], nn.Module]
    region_loss: Literal["dice", "ssim"] = "dice"
    heads: Callable[[int], int] = lambda dim: max(1, dim // 64)


def encoder_on(
    visual: VisionTransformer,
    config: ModelConfig,
    *,
    prompts: VisualPrompts | None,
    spectral: SpectralPrompt | None = None,
    prompt_norm: bool,
) -> ImageEncoder:
    """Build an encoder that taps the blocks of all stages; None: without these prompts.

    `prompt_norm` decides where the recipe does not say.

    Raises:
        UserError: Stages or prompts beyond the tower's blocks.
    """
    return ImageEncoder(
        visual,
        taps=[block for stage in config.stages for block in stage],
        prompts=prompts,
        spectral=spectral,
        prompt_norm=prompt_norm if config.prompt_norm is None else config.prompt_norm,
        class_embeddings=config.class_embeddings,
        position_resize=config.position_resize,
    )


def deep_prompts(config: ModelConfig, visual: VisionTransformer) -> VisualPrompts:
    """Prompts for the first `prompts.depth` blocks of a tower, by default for all."""
    blocks, width = len(visual.transformer.resblocks), visual.proj.shape[0]
    depth = config.prompts.depth or blocks
    return VisualPrompts(config.prompts.tokens, depth, width, int(visual.patch_size[0]), config.prompts.dropout)


def _spt_seg_encoder(config: ModelConfig, visual: VisionTransformer) -> ImageEncoder:
    prompts = deep_prompts(config, visual)
    spectral = SpectralPrompt((config.spectral.grid, config.spectral.grid), visual.proj.shape[0])
    spectral.requires_grad_(config.spectral.train)
    return encoder_on(visual, config, prompts=prompts, spectral=spectral, prompt_norm=True)


def _text_image_decoder(config: DecoderConfig, dim: int, heads: int) -> nn.Module:
    hidden = config.expansion * dim
    return TextImageDecoder(dim, layers=config.layers, heads=heads, hidden=hidden, dropout=config.dropout)


def _frequency_decoder(config: DecoderConfig, dim: int, heads: int) -> nn.Module:
    hidden = config.expansion * dim
    return FrequencyDecoder(
        dim, layers=config.layers, heads=heads, hidden=hidden, dropout=config.dropout, gate=config.gate
    )


ZEGCLIP = Host(
    lambda config, visual: encoder_on(visual, config, prompts=deep_prompts(config, visual), prompt_norm=True),
    _text_image_decoder,
)
"""ZegCLIP: deep visual prompts and a prompt norm (SPEC sections 3, 15)."""

SPT_SEG = Host(_spt_seg_encoder, _frequency_decoder, region_loss="ssim", heads=lambda _dim: RELEASED_HEADS)
"""SPT-SEG: ZegCLIP's encoder, a spectral prompt, and decoders that read high and low frequencies (SPEC section 16)."""

FROZEN_CLIP = Host(
    lambda config, visual: encoder_on(visual, config, prompts=None, prompt_norm=False), _text_image_decoder
)
"""Frozen CLIP: CLIP's own encoder, no prompts, no prompt norm (SPEC section 17)."""
