"""Training-free segmentation: patch tokens of CLIP's last block through its value path (MaskCLIP, Zhou et al. 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cascade_clip.errors import UserError
from cascade_clip.model.clip.image_encoder import patch_grid
from cascade_clip.model.clip.positions import resize_positions

DenseAttention = Literal["value", "self-self"]
_CERTAIN = 1e-6


class DenseNetwork(nn.Module):
    """Image and text embeddings in, mask logits out, without any training.

    The last block's attention is replaced: `value` lets every patch keep its own value (MaskCLIP); `self-self` lets
    patches attend to those of similar queries and of similar keys (the average of q·q and k·k attention, as in CLIP
    Surgery and SCLIP). Its residual branch and feed-forward part are left out, as they hold what the class token needs.
    """

    def __init__(self, visual: VisionTransformer, *, attention: DenseAttention = "value", scale: float = 100.0) -> None:
        """Wrap open_clip's image tower.

        Args:
            visual: open_clip's ViT with a class token.
            attention: What replaces the last block's attention.
            scale: CLIP's logit scale: cosines times this go through a softmax over classes.

        Raises:
            UserError: The last block's attention is not PyTorch's own, so that its values cannot be read.
        """
        super().__init__()
        if not isinstance(getattr(visual.transformer.resblocks[-1], "attn", None), nn.MultiheadAttention):
            raise UserError("This CLIP's blocks are open_clip's custom ones, whose value path cannot be read.")
        self.visual = visual
        self.attention: DenseAttention = attention
        self.scale = scale

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels; image sides are multiples of it."""
        return int(self.visual.patch_size[0])

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Mask logits whose sigmoid is the probability of a class among all that are given.

        Args:
            image: (B, 3, H, W) float, normalised.
            text: (K, C) text embeddings, unit vectors.

        Returns:
            (B, K, h, w) on the grid of patches.

        Raises:
            UserError: A side that is no multiple of the patch size.
        """
        grid = patch_grid(image, self.patch_size)
        tokens = F.normalize(self.patch_tokens(image, grid), dim=-1)
        probability = (self.scale * tokens.float() @ text.float().T).softmax(dim=-1)
        logits: Tensor = torch.special.logit(probability, eps=_CERTAIN).transpose(1, 2)
        by_patch: Tensor = logits.unflatten(-1, grid)
        return by_patch

    def patch_tokens(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patch tokens (B, N, C) in the joint space, not normalised."""
        visual = self.visual
        patches = visual.conv1(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([visual.class_embedding.expand(len(image), 1, -1).to(patches.dtype), patches], dim=1)
        positions = resize_positions(
            visual.positional_embedding, tuple(visual.grid_size), grid, mode="bicubic-antialias"
        )
        tokens = visual.ln_pre(tokens + positions.to(tokens.dtype))
        *earlier, last = visual.transformer.resblocks
        for block in earlier:
            tokens = block(tokens)
        attended = self._attend(last.attn, last.ln_1(tokens))[:, 1:]
        projected: Tensor = visual.ln_post(attended) @ visual.proj
        return projected

    def _attend(self, attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
        """Output (B, 1 + N, W) of the last block's attention, changed as `self.attention` says."""
        query, key, value = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        if self.attention == "self-self":
            by_head = [x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for x in (query, key, value)]
            mixed = [F.scaled_dot_product_attention(x, x, by_head[2]) for x in by_head[:2]]
            value = ((mixed[0] + mixed[1]) / 2).transpose(1, 2).flatten(2)
        output: Tensor = attention.out_proj(value)
        return output
