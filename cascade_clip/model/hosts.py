"""Hosts: what the cascade is built on. A host has its own encoder, decoder and loss beside the focal loss.

`cascade_clip.extensions.HOSTS` names them; another package can add one through an entry point.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from open_clip.transformer import VisionTransformer
from torch import nn

from cascade_clip.config.schema import DecoderConfig, ModelConfig
from cascade_clip.model.clip.image_encoder import ImageEncoder
from cascade_clip.model.clip.prompts import SpectralPrompt, VisualPrompts
from cascade_clip.model.head.decoder import TextImageDecoder
from cascade_clip.model.head.frequency_decoder import RELEASED_HEADS, FrequencyDecoder
from cascade_clip.model.stages import stages_of


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
    config: ModelConfig, visual: VisionTransformer, *, prompts: bool = True, spectral: bool = False
) -> ImageEncoder:
    """Build an encoder that taps the blocks of all stages, with or without visual prompts and the spectral prompt.

    It has a prompt norm beside visual prompts, unless the recipe says otherwise. UserError for stages or prompts beyond
    the tower's blocks.
    """
    given, width, blocks = config.prompts, visual.proj.shape[0], len(visual.transformer.resblocks)
    visual_prompts = spectral_prompt = None
    if prompts:
        depth = given.depth or blocks
        visual_prompts = VisualPrompts(given.tokens, depth, width, int(visual.patch_size[0]), given.dropout)
    if spectral:
        spectral_prompt = SpectralPrompt((config.spectral.grid, config.spectral.grid), width)
        spectral_prompt.requires_grad_(config.spectral.train)
    return ImageEncoder(
        visual,
        taps=[block for stage in stages_of(config, blocks) for block in stage],
        prompts=visual_prompts,
        spectral=spectral_prompt,
        prompt_norm=prompts if config.prompt_norm is None else config.prompt_norm,
        class_embeddings=config.class_embeddings,
        position_resize=config.position_resize,
    )


def _text_image_decoder(config: DecoderConfig, dim: int, heads: int) -> nn.Module:
    hidden = config.expansion * dim
    return TextImageDecoder(dim, layers=config.layers, heads=heads, hidden=hidden, dropout=config.dropout)


def _frequency_decoder(config: DecoderConfig, dim: int, heads: int) -> nn.Module:
    hidden = config.expansion * dim
    return FrequencyDecoder(
        dim, layers=config.layers, heads=heads, hidden=hidden, dropout=config.dropout, gate=config.gate
    )


ZEGCLIP = Host(encoder_on, _text_image_decoder)
"""ZegCLIP: deep visual prompts and a prompt norm (SPEC sections 3, 15)."""

SPT_SEG = Host(
    partial(encoder_on, spectral=True), _frequency_decoder, region_loss="ssim", heads=lambda _dim: RELEASED_HEADS
)
"""SPT-SEG: ZegCLIP's encoder, a spectral prompt, and decoders that read high and low frequencies (SPEC section 16)."""

FROZEN_CLIP = Host(partial(encoder_on, prompts=False), _text_image_decoder)
"""Frozen CLIP: CLIP's own encoder, no prompts, no prompt norm (SPEC section 17)."""
