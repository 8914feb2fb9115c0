"""MaskCLIP (Zhou et al. 2022) as released: another activation in the whole tower, and refinements of the scores."""

from copy import deepcopy
from itertools import chain

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cascade_clip.model.last_block import LastBlock, merge_heads


def with_exact_gelu(visual: VisionTransformer) -> VisionTransformer:
    """The same tower with GELU and epsilon 1e-6, as the released MaskCLIP computes; the weights are shared."""
    shared = {id(tensor): tensor for tensor in chain(visual.parameters(), visual.buffers())}
    tower: VisionTransformer = deepcopy(visual, shared)
    for module in tower.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    for block in tower.transformer.resblocks:
        block.mlp.gelu = nn.GELU()
    return tower


def refined_scores(
    block: LastBlock, cosines: Tensor, text: Tensor | None = None, *, key_smoothing: float, prompt_denoising: float
) -> Tensor:
    """MaskCLIP's refinements of cosines (B, Q, h, w), both off in the released configurations; 0 switches one off.

    Args:
        block: Whose keys are compared.
        cosines: Of patches and queries.
        text: Not read.
        key_smoothing: Patches whose highest probability is below it take a sum of all patches' probabilities, weighted
            by products of keys; the result are such sums and probabilities, no cosines. As released, every channel of
            the keys is divided by its length along the patches, and the sums are not normalised.
        prompt_denoising: Queries whose highest probability anywhere is below it get -100 everywhere.
    """
    if prompt_denoising > 0:
        highest = (100 * cosines).softmax(dim=1).amax(dim=(2, 3), keepdim=True)
        cosines = cosines.masked_fill(highest < prompt_denoising, -100)
    if key_smoothing > 0:
        probabilities = (100 * cosines).softmax(dim=1).flatten(2).transpose(1, 2)
        keys = F.normalize(projected_keys(block).float(), dim=1)
        unsure = probabilities.amax(dim=-1, keepdim=True) < key_smoothing
        smoothed = torch.where(unsure, keys @ (keys.transpose(1, 2) @ probabilities), probabilities)
        cosines = smoothed.transpose(1, 2).unflatten(2, block.grid)
    return cosines


def projected_keys(block: LastBlock) -> Tensor:
    """Keys (B, N, W) of the patches through the attention's output projection, as the released MaskCLIP reads them."""
    return merge_heads(block.blocks[-1], block.heads.key)[:, 1:]
