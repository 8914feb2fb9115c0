"""The last block of CLIP's image tower taken apart, so that training-free methods can put it together anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.faster_linear import linear
from cascade_clip.model.clip.image_encoder import PositionResize, embed_patches


class Heads(NamedTuple):
    """Queries, keys and values of a block's attention, (B, n, T, d) each: n heads of width d."""

    query: Tensor
    key: Tensor
    value: Tensor


def heads_of(block: ResidualAttentionBlock, tokens: Tensor) -> Heads:
    """Queries, keys and values of tokens (B, T, W) at the input of one of open_clip's blocks."""
    attention = block.attn
    projected = linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
    return Heads(*(part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in projected))


def merge_heads(block: ResidualAttentionBlock, mixed: Tensor) -> Tensor:
    """Output (B, T, W) of a block's attention branch from mixed values (B, n, T, d)."""
    return block.ls_1(block.attn.out_proj(mixed.transpose(1, 2).flatten(2)))


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, scale: float | None = None) -> Tensor:
    """softmax(scale · query keyᵀ + bias) value, (B, n, T, d); `bias` broadcasts to (B, n, T, T); None: scale d^-½."""
    mask = None if bias is None else bias.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)


@dataclass(frozen=True, eq=False)
class LastBlock:
    """Images at the input of the tower's last block. All tokens, the class token first, are keys and queries.

    Attributes:
        visual: open_clip's ViT of L blocks.
        image: (B, 3, H, W) float, normalised.
        grid: (h, w) of the patches, N = h·w, row by row.
        inputs: Block (0-based) -> tokens (B, 1 + N, W) at its input: of the last block and of those a method reads.
            The input of block i + 1 is the output of block i.
        kept: What a method of several passes keeps for the next one, by a name of its own.
    """

    visual: VisionTransformer
    image: Tensor
    grid: tuple[int, int]
    inputs: Mapping[int, Tensor]
    kept: dict[str, Tensor] = field(default_factory=dict)

    @property
    def blocks(self) -> Sequence[ResidualAttentionBlock]:
        """open_clip's blocks, of which the last one never runs as a whole."""
        return self.visual.transformer.resblocks

    @property
    def tokens(self) -> Tensor:
        """Tokens (B, 1 + N, W) at the input of the last block."""
        return self.inputs[len(self.blocks) - 1]

    @cached_property
    def heads(self) -> Heads:
        """Queries q, keys k and values v of the last block."""
        return heads_of(self.blocks[-1], self.tokens)

    def attend(self, query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
        """A v (B, n, 1 + N, d) with A = softmax(s · query keyᵀ + bias), s = d^-½."""
        return attend(query, key, self.heads.value, bias)

    def reduced(self, mixed: Tensor) -> Tensor:
        """Patch tokens (B, N, W) from mixed values (B, n, 1 + N, d), with neither residual nor feed-forward part."""
        return merge_heads(self.blocks[-1], mixed)[:, 1:]

    def full(self, mixed: Tensor) -> Tensor:
        """Patch tokens (B, N, W) from mixed values (B, n, 1 + N, d), with residual and feed-forward part as in CLIP."""
        last = self.blocks[-1]
        attended = self.tokens[:, 1:] + self.reduced(mixed)
        return attended + last.ls_2(last.mlp(last.ln_2(attended)))

    def project(self, patch_tokens: Tensor) -> Tensor:
        """Features (B, N, C) in the joint space, not normalised, of patch tokens (B, N, W)."""
        return self.visual.ln_post(patch_tokens) @ self.visual.proj


def patch_cosines(features: Tensor, text: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cosines (B, Q, h, w) float32 of features (B, N, C), of any length, and queries (Q, C), unit vectors."""
    # Within autocast, the product would be in half precision.
    with torch.autocast(features.device.type, enabled=False):
        unit = F.normalize(features.float(), dim=-1)
        return (text.float() @ unit.transpose(1, 2)).unflatten(-1, grid)


def run_to_last_block(
    visual: VisionTransformer, image: Tensor, position_resize: PositionResize, reads: tuple[int, ...]
) -> LastBlock:
    """Run images (B, 3, H, W), normalised, through the tower up to its last block, but for pixels beyond whole patches.

    `reads` are blocks (0-based, negative ones from the end) whose inputs are kept beside the last one's.
    """
    height, width = image.shape[-2:]
    patch, blocks = visual.patch_size[0], visual.transformer.resblocks
    grid = (height // patch, width // patch)
    kept = {index % len(blocks) for index in (*reads, -1)}
    tokens = embed_patches(visual, image, grid, class_embeddings=1, position_resize=position_resize)
    inputs = {}
    for index, block in enumerate(blocks):
        if index in kept:
            inputs[index] = tokens
        if index < len(blocks) - 1:
            tokens = block(tokens)
    return LastBlock(visual, image, grid, inputs)


def gaussian_bias(grid: tuple[int, int], sigma: float, device: torch.device | None = None) -> Tensor:
    """Γ (1 + N, 1 + N) float32: exp(-distance² / 2σ²) of patches, in patches; 0 for the class token (NACLIP)."""

    def along(length: int) -> Tensor:
        place = torch.arange(length, dtype=torch.float32, device=device)
        return torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))

    return F.pad(torch.kron(along(grid[0]), along(grid[1])), (1, 0, 1, 0))
