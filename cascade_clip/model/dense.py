"""Training-free segmentation: patch tokens of CLIP's last block through its value path (MaskCLIP, Zhou et al. 2022)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import ClipConfig, DataConfig, InferenceConfig, Recipe, TextConfig
from cascade_clip.errors import UserError
from cascade_clip.model.clip.image_encoder import embed_patches, patch_grid
from cascade_clip.model.clip.load import BUNDLED, Clip, load_clip, split_clip_name

DenseAttention = Literal["value", "self-self"]
_CERTAIN = 1e-6


class DenseTokens(NamedTuple):
    """Encoded images of a training-free network."""

    tokens: Tensor
    """(B, N, C) patch tokens, unit vectors in the joint space."""
    grid: tuple[int, int]
    """(h, w) of the patches, N = h·w, row by row."""


class DenseNetwork(nn.Module):
    """Image and text embeddings in, mask logits out, without any training.

    The last block's attention is replaced: `value` lets every patch keep its own value (MaskCLIP); `self-self` lets
    patches attend to those of similar queries and of similar keys (the average of q·q and k·k attention, as in CLIP
    Surgery and SCLIP). Its residual branch and feed-forward part are left out, as they hold what the class token needs.
    """

    def __init__(self, visual: VisionTransformer, *, attention: DenseAttention = "value", scale: float = 100.0) -> None:
        """Wrap open_clip's ViT; cosines times `scale`, CLIP's logit scale, go through a softmax over classes.

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

    def encode(self, image: Tensor) -> DenseTokens:
        """Encode images (B, 3, H, W) once; `forward` compares the result with any number of vocabularies.

        Raises:
            UserError: A side is no multiple of the patch size.
        """
        grid = patch_grid(image, self.patch_size)
        return DenseTokens(F.normalize(self.patch_tokens(image, grid), dim=-1), grid)

    def forward(self, image: Tensor | DenseTokens, text: Tensor) -> Tensor:
        """Mask logits (B, K, h, w) on the grid of patches; their sigmoid is the probability of a class among all given.

        Args:
            image: (B, 3, H, W) float, normalised, or the result of `encode`.
            text: (K, C) text embeddings, unit vectors.

        Raises:
            UserError: A side is no multiple of the patch size.
        """
        encoded = self.encode(image) if isinstance(image, Tensor) else image
        # In half precision the largest probability would be 1, whose logit is infinite.
        probability = (self.scale * encoded.tokens.float() @ text.float().T).float().softmax(dim=-1)
        logits: Tensor = torch.special.logit(probability, eps=_CERTAIN).transpose(1, 2).unflatten(-1, encoded.grid)
        return logits

    def cosines(self, image: Tensor | DenseTokens, text: Tensor) -> Tensor:
        """Cosines (B, Q, h, w) float32 of every patch and every query, on the grid of patches (logit scale 1).

        Args:
            image: (B, 3, H, W) float, normalised, or the result of `encode`.
            text: (Q, C) text embeddings of the queries, unit vectors.

        Raises:
            UserError: A side is no multiple of the patch size.
        """
        encoded = self.encode(image) if isinstance(image, Tensor) else image
        cosines: Tensor = (text.float() @ encoded.tokens.float().transpose(1, 2)).unflatten(-1, encoded.grid)
        return cosines

    def patch_tokens(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patch tokens (B, N, C) in the joint space, not normalised."""
        visual = self.visual
        tokens = embed_patches(visual, image, grid, class_embeddings=1, position_resize="bicubic-antialias")
        *earlier, last = visual.transformer.resblocks
        for block in earlier:
            tokens = block(tokens)
        attended = self._attend(last.attn, last.ln_1(tokens))[:, 1:]
        projected: Tensor = visual.ln_post(attended) @ visual.proj
        return projected

    def _attend(self, attention: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
        """Output (B, 1 + N, W) of the last block's attention, replaced as `self.attention` says."""
        query, key, value = F.linear(tokens, attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
        if self.attention == "self-self":
            by_head = [x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for x in (query, key, value)]
            mixed = [F.scaled_dot_product_attention(x, x, by_head[2]) for x in by_head[:2]]
            value = ((mixed[0] + mixed[1]) / 2).transpose(1, 2).flatten(2)
        output: Tensor = attention.out_proj(value)
        return output


PREFIXES: dict[str, DenseAttention] = {"dense:": "value", "dense-self:": "self-self"}
DEFAULT_WEIGHTS = "openai"
_SIDE = 512
_OVERLAP = 426 / 512


def is_dense(name: str) -> bool:
    """Whether a model's name is that of a training-free one."""
    return name.startswith(tuple(PREFIXES))


def load_dense(name: str) -> tuple[DenseNetwork, Clip, Recipe]:
    """Load a training-free model: its network, its CLIP, and a recipe with CLIP's own normalisation and no bias.

    Args:
        name: `dense:NAME` reads the last block's value path, `dense-self:NAME` lets patches attend to similar ones.
            NAME is `bundled`, an open_clip name with `:WEIGHTS` (default `openai`), `hf-hub:…` or `local-dir:…`.

    Raises:
        UserError: A CLIP that cannot be loaded.
    """
    prefix = next(prefix for prefix in PREFIXES if name.startswith(prefix))
    architecture, weights = split_clip_name(name.removeprefix(prefix), default=DEFAULT_WEIGHTS)
    clip = load_clip(architecture, weights)
    network = DenseNetwork(clip.visual, attention=PREFIXES[prefix])
    own_side = int(clip.visual.image_size[0])
    # The bundled CLIP knows a small world at its own scale; photographs are taken at the size of the paper.
    side = own_side if architecture == BUNDLED else _SIDE // network.patch_size * network.patch_size
    recipe = Recipe(
        name=name,
        clip=ClipConfig(architecture=architecture, weights=weights or DEFAULT_WEIGHTS),
        text=TextConfig(templates="multi" if architecture == BUNDLED else "imagenet", half=False, readable=True),
        data=DataConfig(mean=clip.mean, std=clip.std, short_side=side, crop=side),
        inference=InferenceConfig(crop=side, stride=max(1, round(side * _OVERLAP)), seen_bias=0.0),
    )
    return network, clip, recipe
