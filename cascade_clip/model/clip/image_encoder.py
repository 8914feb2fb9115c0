"""The prompted image encoder: open_clip's own blocks, visual prompts between them, taps after any of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from cascade_clip.errors import UserError
from cascade_clip.faster_linear import linear
from cascade_clip.model.clip.prompts import SPECTRAL_BLOCKS, SpectralPrompt, VisualPrompts

PROMPT_NORM_EPS = 1e-6
_FACTOR_OFFSET = 0.1
"""Added to the wanted grid so that the product with the factor never rounds down to one row less."""
PositionResize = Literal["bilinear", "bicubic", "bicubic-factor", "bicubic-antialias"]
"""How positions are resized to another grid, see `resize_positions`."""


@dataclass(frozen=True)
class ImageFeatures:
    """The encoder's result, which the head reads.

    Attributes:
        patch_tokens: Block (1-based, "after block i") -> (B, N, C) unit vectors in the joint image-text space.
        class_token: g, (B, C) unit vectors, of the last block.
        grid: (h, w) of the patches, N = h·w, row by row.
    """

    patch_tokens: dict[int, Tensor]
    class_token: Tensor
    grid: tuple[int, int]


class TapProjection(nn.Module):
    """Norm and projection of one tapped block to the joint space (SPEC section 3.6)."""

    def __init__(self, width: int, joint: int) -> None:
        """Make an identity norm and a random projection N(0, 1/W), as released."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, joint) * width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, W) to the joint space (B, N, C), not yet normalised."""
        return self.norm(tokens) @ self.proj

    @torch.no_grad()
    def copy_from_clip(self, visual: VisionTransformer) -> None:
        """Start from CLIP's own final norm and projection (SPEC section 14 a)."""
        self.norm.weight.copy_(visual.ln_post.weight)
        self.norm.bias.copy_(visual.ln_post.bias)
        self.proj.copy_(visual.proj)


class ImageEncoder(nn.Module):
    """Frozen CLIP ViT + optional visual prompts; patch tokens of tapped blocks and the class token (SPEC 3)."""

    def __init__(
        self,
        visual: VisionTransformer,
        *,
        taps: Sequence[int],
        prompts: VisualPrompts | None = None,
        spectral: SpectralPrompt | None = None,
        prompt_norm: bool = False,
        class_embeddings: int = 2,
        position_resize: PositionResize = "bilinear",
    ) -> None:
        """Wrap open_clip's ViT with a class token; its layers are used, never copied.

        Args:
            visual: The ViT.
            taps: Blocks whose patch tokens are wanted, 1-based, "after block i". The last block goes through CLIP's own
                final norm and projection, every other one through its own `TapProjection`.
            prompts: None: without visual prompts.
            spectral: Spectral prompt of SPT-SEG, added to the patches at the input of the first two blocks.
            prompt_norm: One trainable LayerNorm before every tap and the final output.
            class_embeddings: How often CLIP's class embedding is added to its token (2 as released, 1 as CLIP).
            position_resize: How positions are resized to another grid.

        Raises UserError for a tap or the prompts' depth beyond the tower's blocks.
        """
        super().__init__()
        self.visual = visual
        self.blocks = len(visual.transformer.resblocks)
        width, joint = visual.proj.shape
        if beyond := [tap for tap in taps if not 1 <= tap <= self.blocks]:
            raise UserError(f"This CLIP has {self.blocks} blocks, counted from 1; the stages name {beyond}.")
        if prompts is not None and prompts.depth > self.blocks:
            raise UserError(f"This CLIP has {self.blocks} blocks; prompts for {prompts.depth} were asked for.")
        self.taps = tuple(sorted(set(taps)))
        self.prompts = prompts
        self.spectral = spectral
        self.prompt_norm = nn.LayerNorm(width, eps=PROMPT_NORM_EPS) if prompt_norm else nn.Identity()
        self.tap_projections = nn.ModuleDict(
            {str(tap): TapProjection(width, joint) for tap in self.taps if tap != self.blocks}
        )
        self.class_embeddings = class_embeddings
        self.position_resize: PositionResize = position_resize
        self.gradient_checkpointing = False

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return int(self.visual.patch_size[0])

    def forward(self, image: Tensor, block_outputs: list[Tensor] | None = None) -> ImageFeatures:
        """Encode images (B, 3, H, W) float, normalised, H and W multiples of the patch size, else UserError.

        `block_outputs` is filled with the output of each block, (B, 1 + N, W), class token first; None: not collected.
        """
        grid = patch_grid(image, self.patch_size)
        tokens = embed_patches(self.visual, image, grid, self.class_embeddings, self.position_resize)
        patch_tokens: dict[int, Tensor] = {}
        for index, block in enumerate(self.visual.transformer.resblocks):
            tokens = self._with_spectral(tokens, index, grid)
            prompts = None
            if self.prompts is not None and index < self.prompts.depth:
                prompts = self.prompts(index, len(tokens)).to(tokens.dtype)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(_through_block, block, tokens, prompts, use_reentrant=False)
            else:
                tokens = _through_block(block, tokens, prompts)
            if block_outputs is not None:
                block_outputs.append(tokens)
            if index + 1 in self.taps:
                patch_tokens[index + 1] = self._project(tokens[:, 1:], index + 1)
        class_token = self._project(tokens[:, :1], self.blocks)[:, 0]
        return ImageFeatures(patch_tokens, class_token, grid)

    def _with_spectral(self, tokens: Tensor, index: int, grid: tuple[int, int]) -> Tensor:
        """Add the spectral prompt to the patches at the input of the first blocks (SPEC section 16)."""
        if self.spectral is None or index >= SPECTRAL_BLOCKS:
            return tokens
        class_token, patches = tokens[:, :1], tokens[:, 1:]
        return torch.cat([class_token, patches + self.spectral(patches, class_token, grid)], dim=1)

    def _project(self, tokens: Tensor, block: int) -> Tensor:
        """Norms and projection after a block, to unit vectors: (B, N, W) -> (B, N, C)."""
        tokens = self.prompt_norm(tokens)
        if block == self.blocks:
            tokens = self.visual.ln_post(tokens) @ self.visual.proj
        else:
            tokens = self.tap_projections[str(block)](tokens)
        return F.normalize(tokens, dim=-1)


def patch_grid(image: Tensor, patch_size: int) -> tuple[int, int]:
    """Patch grid (h, w) of images (B, 3, H, W); raises UserError, with the size to pad to, if a side does not fit."""
    height, width = image.shape[-2:]
    if height % patch_size or width % patch_size or not height or not width:
        padded = [max(1, -(-side // patch_size)) * patch_size for side in (height, width)]
        raise UserError(
            f"An image of {height} x {width} pixels does not fit patches of {patch_size}: pad or resize it to"
            f" {padded[0]} x {padded[1]}."
        )
    return height // patch_size, width // patch_size


def embed_patches(
    visual: VisionTransformer,
    image: Tensor,
    grid: tuple[int, int],
    class_embeddings: int,
    position_resize: PositionResize,
) -> Tensor:
    """Class token and patch tokens of images (B, 3, H, W) with positions, after ln_pre: (B, 1 + N, W)."""
    patches = visual.conv1(image).flatten(2).transpose(1, 2)
    # The released code adds the class embedding once as the token and once more to its position (SPEC section 3.2).
    class_token = (class_embeddings * visual.class_embedding).expand(len(image), 1, -1)
    positions = resize_positions(visual.positional_embedding, tuple(visual.grid_size), grid, position_resize)
    tokens = torch.cat([class_token.to(patches.dtype), patches], dim=1) + positions.to(patches.dtype)
    return visual.ln_pre(tokens)


def _through_block(block: nn.Module, tokens: Tensor, prompts: Tensor | None) -> Tensor:
    """Tokens (B, 1 + N, W) after one of open_clip's blocks that sees prompts (B, P, W) beside them.

    Every block gets fresh prompts, so that a block's own output of them is never read: they are keys and values of its
    attention, and neither queries nor input of its feed-forward part.
    """
    if prompts is None:
        return block(tokens)
    if not isinstance(block, ResidualAttentionBlock):
        sequence = block(torch.cat([tokens[:, :1], prompts, tokens[:, 1:]], dim=1))
        return torch.cat([sequence[:, :1], sequence[:, 1 + prompts.shape[1] :]], dim=1)
    attended = tokens + block.ls_1(_attend(block.attn, block.ln_1(tokens), block.ln_1(prompts)))
    return attended + block.ls_2(block.mlp(block.ln_2(attended)))


def _attend(attention: nn.MultiheadAttention, tokens: Tensor, prompts: Tensor) -> Tensor:
    """Attention of tokens (B, 1 + N, W) to themselves and the prompts (B, P, W), with the weights of `attention`.

    The module's own forward puts the batch on the second axis, which is several times slower with two images.
    """
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    query, key, value = linear(tokens, weight, bias).chunk(3, dim=-1)
    width = tokens.shape[-1]
    prompt_key, prompt_value = linear(prompts, weight[width:], bias[width:]).chunk(2, dim=-1)
    keys, values = torch.cat([key, prompt_key], dim=1), torch.cat([value, prompt_value], dim=1)
    by_head = (x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for x in (query, keys, values))
    return attention.out_proj(F.scaled_dot_product_attention(*by_head).transpose(1, 2).flatten(2))


def resize_positions(
    positions: Tensor, source: tuple[int, int], target: tuple[int, int], mode: PositionResize
) -> Tensor:
    """Resize the spatial part of a position table to another grid; the class position stays (SPEC section 3.2).

    Args:
        positions: (1 + h·w, W) float, the class token's position first, then row by row.
        source: Grid (h, w) of the table; the table itself is returned where it equals `target`.
        target: Grid (h', w') of the result, (1 + h'·w', W).
        mode: `bilinear` without antialiasing, as the released Cascade-CLIP; `bicubic-antialias` as open_clip does;
            `bicubic` without antialiasing, as MaskCLIP; `bicubic-factor` likewise, by the factor (h' + 0.1) / h, as
            SCLIP and most later training-free methods. As released, the last two compare numbers of tokens only: a
            4 x 16 grid takes the table of 8 x 8 unchanged.
    """
    by_number = mode in {"bicubic", "bicubic-factor"}
    if source == target or (by_number and math.prod(source) == math.prod(target)):
        return positions
    spatial = positions[1:].float().reshape(1, *source, -1).permute(0, 3, 1, 2)
    kind, _, variant = mode.partition("-")
    if variant == "factor":
        factors = [(wanted + _FACTOR_OFFSET) / given for wanted, given in zip(target, source, strict=True)]
        spatial = F.interpolate(spatial, scale_factor=factors, mode=kind, align_corners=False)
    else:
        spatial = F.interpolate(spatial, size=target, mode=kind, antialias=variant == "antialias", align_corners=False)
    spatial = spatial.permute(0, 2, 3, 1).reshape(target[0] * target[1], -1)
    return torch.cat([positions[:1], spatial.to(positions.dtype)])
