"""From configuration to network: the only place that knows both. One builder a host."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from open_clip.transformer import VisionTransformer
from torch import nn

from cascade_clip.config.schema import AggregationConfig, ModelConfig
from cascade_clip.errors import UserError
from cascade_clip.model.clip.image_encoder import ImageEncoder, TapProjection
from cascade_clip.model.clip.quick_gelu import use_lean_activations
from cascade_clip.model.clip.spectral_prompt import SpectralPrompt
from cascade_clip.model.clip.visual_prompts import VisualPrompts
from cascade_clip.model.head.aggregation import (
    BlockAttention,
    Concatenation,
    SingleBlock,
    WeightedSum,
    gaussian_weights,
)
from cascade_clip.model.head.cascade import CascadeHead
from cascade_clip.model.head.decoder import TextImageDecoder
from cascade_clip.model.head.frequency_decoder import RELEASED_HEADS, FrequencyDecoder
from cascade_clip.model.network import CascadeNetwork


def build_network(config: ModelConfig, visual: VisionTransformer) -> CascadeNetwork:
    """Build the network of a recipe on an image tower.

    New weights are drawn from PyTorch's global random state. The tower is frozen; so are the stage projections unless
    the recipe trains them (SPEC section 8).

    Args:
        config: Host, stages, prompts, aggregation, decoder.
        visual: open_clip's image tower, whose activations are put in place of equal ones that keep less.

    Raises:
        UserError: Stages or prompts beyond the tower's blocks, decoder heads that do not divide the joint dimension.
    """
    visual.requires_grad_(False)
    use_lean_activations(visual)
    encoder = HOST_ENCODERS[config.host](config, visual)
    for tap in encoder.tap_projections.values():
        if config.stage_projection.init == "clip" and isinstance(tap, TapProjection):
            tap.copy_from_clip(visual)
        tap.requires_grad_(config.stage_projection.train)
    return CascadeNetwork(encoder, _build_head(config, visual.proj.shape[1]))


def _zegclip_encoder(config: ModelConfig, visual: VisionTransformer) -> ImageEncoder:
    """ZegCLIP's encoder: deep visual prompts and a prompt norm (SPEC sections 3, 15)."""
    return _encoder(config, visual, prompts=_deep_prompts(config, visual), prompt_norm=config.prompt_norm is not False)


def _spt_seg_encoder(config: ModelConfig, visual: VisionTransformer) -> ImageEncoder:
    """SPT-SEG's encoder: ZegCLIP's and a spectral prompt (SPEC section 16)."""
    prompts = _deep_prompts(config, visual)
    spectral = SpectralPrompt((config.spectral.grid, config.spectral.grid), visual.proj.shape[0])
    spectral.requires_grad_(config.spectral.train)
    return _encoder(config, visual, prompts=prompts, spectral=spectral, prompt_norm=config.prompt_norm is not False)


def _frozen_clip_encoder(config: ModelConfig, visual: VisionTransformer) -> ImageEncoder:
    """CLIP's own encoder: no prompts, no prompt norm (SPEC section 17)."""
    return _encoder(config, visual, prompts=None, prompt_norm=config.prompt_norm is True)


HOST_ENCODERS: dict[str, Callable[[ModelConfig, VisionTransformer], ImageEncoder]] = {
    "zegclip": _zegclip_encoder,
    "spt-seg": _spt_seg_encoder,
    "frozen-clip": _frozen_clip_encoder,
}


def _deep_prompts(config: ModelConfig, visual: VisionTransformer) -> VisualPrompts:
    blocks, width = len(visual.transformer.resblocks), visual.proj.shape[0]
    return VisualPrompts(
        config.prompts.tokens,
        config.prompts.depth or blocks,
        width,
        int(visual.patch_size[0]),
        config.prompts.dropout,
    )


def _encoder(
    config: ModelConfig,
    visual: VisionTransformer,
    *,
    prompts: VisualPrompts | None,
    spectral: SpectralPrompt | None = None,
    prompt_norm: bool,
) -> ImageEncoder:
    return ImageEncoder(
        visual,
        taps=[block for stage in config.stages for block in stage],
        prompts=prompts,
        spectral=spectral,
        prompt_norm=prompt_norm,
        class_embeddings=config.class_embeddings,
        position_resize=config.position_resize,
    )


def _build_head(config: ModelConfig, dim: int) -> CascadeHead:
    frequency = config.host == "spt-seg"
    heads = config.decoder.heads or (RELEASED_HEADS if frequency else max(1, dim // 64))
    if dim % heads:
        raise UserError(f"The decoder's {heads} heads do not divide the joint dimension {dim} of this CLIP.")
    decoder = partial(FrequencyDecoder, gate=config.decoder.gate) if frequency else TextImageDecoder
    decoders = len(config.stages) * config.decoders_per_stage
    projections = decoders if config.text_projection == "independent" else 1
    return CascadeHead(
        config.stages,
        aggregations=[_aggregation(config.aggregation, len(stage), dim, heads) for stage in config.stages],
        text_projections=[nn.Linear(2 * dim, dim) for _ in range(projections)],
        decoders=[
            decoder(
                dim,
                layers=config.decoder.layers,
                heads=heads,
                hidden=config.decoder.expansion * dim,
                dropout=config.decoder.dropout,
            )
            for _ in range(decoders)
        ],
    )


def _aggregation(config: AggregationConfig, blocks: int, dim: int, heads: int) -> nn.Module:
    return SingleBlock() if blocks == 1 else AGGREGATIONS[config.kind](config, blocks, dim, heads)


def _gaussian(config: AggregationConfig, blocks: int, dim: int, heads: int) -> WeightedSum:
    return WeightedSum(gaussian_weights(blocks, config.sigma, config.formula), train=config.train)


def _sum(config: AggregationConfig, blocks: int, dim: int, heads: int) -> WeightedSum:
    return WeightedSum(torch.ones(blocks), train=config.train)


def _concat(config: AggregationConfig, blocks: int, dim: int, heads: int) -> Concatenation:
    return Concatenation(blocks, dim)


def _self_attention(config: AggregationConfig, blocks: int, dim: int, heads: int) -> BlockAttention:
    return BlockAttention(dim, heads)


AGGREGATIONS: dict[str, Callable[[AggregationConfig, int, int, int], nn.Module]] = {
    "gaussian": _gaussian,
    "sum": _sum,
    "concat": _concat,
    "self-attention": _self_attention,
}
"""Builders of what merges a stage of several blocks: settings, blocks, joint dimension, heads -> module."""
