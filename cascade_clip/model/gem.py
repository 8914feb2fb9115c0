"""GEM (Bousselham et al. 2024): self-self attention in the last blocks, beside CLIP's own."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.model.last_block import LastBlock, attend, heads_of, merge_heads

GEM_DEPTH = 7


def gem(block: LastBlock, depth: int = GEM_DEPTH, iterations: int = 1, temperature: float | None = None) -> Tensor:
    """Patch tokens (B, N, W): the last `depth` - 1 blocks add the mean of v v, k k and q q attention to a stream.

    `depth` is one more than the number of blocks, as in the released code; `iterations`, how often each part attends to
    itself before the values are mixed; `temperature`, the factor of the attention logits (None: s · mean length of the
    tokens at the block's attention).
    """
    first = len(block.blocks) - (depth - 1)
    stream = block.inputs[first]
    for index in range(first, len(block.blocks)):
        one, tokens = block.blocks[index], block.inputs[index]
        heads = heads_of(one, tokens)
        length = one.ln_1(tokens).norm(dim=-1).mean(dim=1)[:, None, None, None]
        factor = length * heads.query.shape[-1] ** -0.5 if temperature is None else torch.full_like(length, temperature)
        mixed = [_self_self(part, heads.value, factor, iterations) for part in heads]
        stream = stream + merge_heads(one, torch.stack(mixed).mean(dim=0))
    return stream[:, 1:]


def _self_self(part: Tensor, value: Tensor, factor: Tensor, iterations: int) -> Tensor:
    """Values attended by unit vectors of one part of the heads, which attend to themselves `iterations` times first."""
    for _ in range(iterations):
        unit = F.normalize(part, dim=-1)
        part = attend(factor * unit, unit, unit, scale=1.0)
    unit = F.normalize(part, dim=-1)
    return attend(factor * unit, unit, value, scale=1.0)
