"""From configuration to network: the only place that knows both. One builder a host."""

from __future__ import annotations

from collections.abc import Callable

from open_clip.transformer import VisionTransformer
from torch import nn

from cascade_clip.clip.image_encoder import ImageEncoder, TapProjection
from cascade_clip.clip.visual_prompts import VisualPrompts
from cascade_clip.config.schema import ModelConfig
from cascade_clip.errors import UserError
from cascade_clip.head.aggregation import GaussianAggregation, SingleBlock
from cascade_clip.head.cascade import CascadeHead
from cascade_clip.head.decoder import TextImageDecoder
from cascade_clip.network import CascadeNetwork


def build_network(config: ModelConfig, visual: VisionTransformer) -> CascadeNetwork:
    """Build the network of a recipe on an image tower.

    New weights are drawn from PyTorch's global random state. The tower is frozen; so are the stage projections unless
    the recipe trains them (SPEC section 8).

    Args:
        config: Host, stages, prompts, aggregation, decoder.
        visual: open_clip's image tower.

    Raises:
        UserError: Stages or prompts beyond the tower's blocks, decoder heads that do not divide the joint dimension.
    """
    visual.requires_grad_(False)
    encoder = HOST_ENCODERS[config.host](config, visual)
    for tap in encoder.tap_projections.values():
        if config.stage_projection.init == "clip" and isinstance(tap, TapProjection):
            tap.copy_from_clip(visual)
        tap.requires_grad_(config.stage_projection.train)
    return CascadeNetwork(encoder, _build_head(config, visual.proj.shape[1]))


def _zegclip_encoder(config: ModelConfig, visual: VisionTransformer) -> ImageEncoder:
    """ZegCLIP's encoder: deep visual prompts and a prompt norm (SPEC sections 3, 15)."""
    blocks, width = len(visual.transformer.resblocks), visual.proj.shape[0]
    prompts = VisualPrompts(
        config.prompts.tokens,
        config.prompts.depth or blocks,
        width,
        int(visual.patch_size[0]),
        config.prompts.dropout,
    )
    return _encoder(config, visual, prompts=prompts, prompt_norm=config.prompt_norm is not False)


def _frozen_clip_encoder(config: ModelConfig, visual: VisionTransformer) -> ImageEncoder:
    """CLIP's own encoder: no prompts, no prompt norm (SPEC section 17)."""
    return _encoder(config, visual, prompts=None, prompt_norm=config.prompt_norm is True)


HOST_ENCODERS: dict[str, Callable[[ModelConfig, VisionTransformer], ImageEncoder]] = {
    "zegclip": _zegclip_encoder,
    "frozen-clip": _frozen_clip_encoder,
}


def _encoder(
    config: ModelConfig, visual: VisionTransformer, *, prompts: VisualPrompts | None, prompt_norm: bool
) -> ImageEncoder:
    return ImageEncoder(
        visual,
        taps=[block for stage in config.stages for block in stage],
        prompts=prompts,
        prompt_norm=prompt_norm,
        class_embeddings=config.class_embeddings,
        position_resize=config.position_resize,
    )


def _build_head(config: ModelConfig, dim: int) -> CascadeHead:
    heads = config.decoder.heads or max(1, dim // 64)
    if dim % heads:
        raise UserError(f"The decoder's {heads} heads do not divide the joint dimension {dim} of this CLIP.")
    projections = len(config.stages) if config.text_projection == "independent" else 1
    return CascadeHead(
        config.stages,
        aggregations=[_aggregation(config, len(stage)) for stage in config.stages],
        text_projections=[nn.Linear(2 * dim, dim) for _ in range(projections)],
        decoders=[
            TextImageDecoder(
                dim,
                layers=config.decoder.layers,
                heads=heads,
                hidden=config.decoder.expansion * dim,
                dropout=config.decoder.dropout,
            )
            for _ in config.stages
        ],
    )


def _aggregation(config: ModelConfig, blocks: int) -> nn.Module:
    if blocks == 1:
        return SingleBlock()
    settings = config.aggregation
    return GaussianAggregation(blocks, sigma=settings.sigma, formula=settings.formula, train=settings.train)
