"""From a recipe's settings to the network, on any host."""

import logging

from open_clip.transformer import VisionTransformer
from torch import nn

from cascade_clip.config.schema import AggregationConfig, ModelConfig
from cascade_clip.errors import UserError
from cascade_clip.extensions import AGGREGATIONS, HOSTS
from cascade_clip.model.clip.image_encoder import TapProjection
from cascade_clip.model.clip.open_clip_model import use_lean_activations
from cascade_clip.model.head.aggregation import SingleBlock
from cascade_clip.model.head.cascade import CascadeHead
from cascade_clip.model.hosts import Host
from cascade_clip.model.network import CascadeNetwork
from cascade_clip.model.stages import scaled_stages, stages_of
from cascade_clip.runtime import check_memory

_WAY_OUT = "lower model.prompts.tokens, model.decoders_per_stage, model.decoder.layers or model.decoder.expansion"
log = logging.getLogger(__name__)


def build_network(config: ModelConfig, visual: VisionTransformer) -> CascadeNetwork:
    """Build the network of a recipe on an image tower of open_clip; a warning says if no stage reads its last block.

    New weights are drawn from PyTorch's global random state. The tower is frozen, and so are the stage projections
    unless the recipe trains them (SPEC section 8); its activations are replaced by equal ones that keep less memory.

    Raises UserError for a model beyond this machine's memory, stages or prompts beyond the tower's blocks, decoder
    heads that do not divide the joint dimension, or a host or aggregation of another package that cannot be loaded.
    """
    host: Host = HOSTS.load(config.host)
    stages = stages_of(config, len(visual.transformer.resblocks))
    config = config.changed(stages=stages)
    check_memory(_least_bytes(config, visual, len(stages)), "The recipe's model", _WAY_OUT)
    visual.requires_grad_(False)
    use_lean_activations(visual)
    encoder = host.encoder(config, visual)
    if encoder.blocks not in encoder.taps:
        log.warning(
            "This CLIP has %d blocks; the stages %s leave out the last. Scaled to its depth they are model.stages=%s.",
            encoder.blocks,
            [list(stage) for stage in stages],
            [list(stage) for stage in scaled_stages(stages, encoder.blocks)],
        )
    for tap in encoder.tap_projections.values():
        if config.stage_projection.init == "clip" and isinstance(tap, TapProjection):
            tap.copy_from_clip(visual)
        tap.requires_grad_(config.stage_projection.train)
    return CascadeNetwork(encoder, _build_head(config, stages, host, visual.proj.shape[1]))


def _least_bytes(config: ModelConfig, visual: VisionTransformer, stages: int) -> int:
    """Bytes of the weights whose number the recipe decides, fewer than the network has."""
    width, joint = (int(side) for side in visual.proj.shape)
    depth = config.prompts.depth or len(visual.transformer.resblocks)
    prompts = depth * config.prompts.tokens * width
    decoders = stages * config.decoders_per_stage
    hidden = decoders * config.decoder.layers * config.decoder.expansion * joint**2
    spectral = config.spectral.grid**2 * width if config.host == "spt-seg" else 0
    return 4 * (prompts + hidden + spectral)


def build_aggregation(config: AggregationConfig, blocks: int, dim: int, heads: int) -> nn.Module:
    """Build what merges a list of a stage's `blocks` maps (B, N, C), C = `dim`, into one (B, N, C).

    The tokens of a single block are left as they are. `heads` are the decoder's, for aggregations that attend.
    """
    if blocks == 1:
        return SingleBlock()
    return AGGREGATIONS.load(config.kind)(config, blocks, dim, heads)


def _build_head(config: ModelConfig, stages: tuple[tuple[int, ...], ...], host: Host, dim: int) -> CascadeHead:
    heads = config.decoder.heads or host.heads(dim)
    if dim % heads:
        raise UserError(f"The decoder's {heads} heads do not divide the joint dimension {dim} of this CLIP.")
    decoders = len(stages) * config.decoders_per_stage
    projections = decoders if config.text_projection == "independent" else 1
    return CascadeHead(
        stages,
        aggregations=[build_aggregation(config.aggregation, len(stage), dim, heads) for stage in stages],
        text_projections=[nn.Linear(2 * dim, dim) for _ in range(projections)],
        decoders=[host.decoder(config.decoder, dim, heads) for _ in range(decoders)],
    )
