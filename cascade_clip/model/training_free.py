"""Training-free methods: what each computes in the last block of CLIP's image tower (training_free/SPEC section 2).

A method is one function and one line of `METHODS`. In the functions, q, k and v are queries, keys and values of all
tokens in the last block, `attend(x, y)` is softmax(s · x yᵀ) v, and the tail is `full` (residual and feed-forward part,
as in CLIP) or `reduced` (neither).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from cascade_clip.errors import UserError, closest
from cascade_clip.model.clip.image_encoder import PositionResize
from cascade_clip.model.gem import GEM_DEPTH, gem
from cascade_clip.model.last_block import LastBlock, gaussian_bias
from cascade_clip.model.mask_clip import refined_scores, with_exact_gelu
from cascade_clip.model.res_clip import RESIDUAL_BLOCKS, ResClip
from cascade_clip.model.sc_clip import NEIGHBOURS, SC_BLOCKS, SC_READS, scclip


@dataclass(frozen=True)
class Method:
    """A training-free method.

    Attributes:
        name: Name by which it is asked for.
        title: Its published name.
        patch_tokens: Patch tokens (B, N, W) that take the place of the last block's output, before CLIP's own final
            norm and projection.
        positions: How positions are resized to the grid.
        blocks: Least number of blocks of the tower.
        patches: Least number of patches.
        reads: Blocks (0-based, negative ones from the end) whose inputs it reads, beside the last one's.
        pads: Whether images are filled up with 0 to whole patches; otherwise pixels beyond the last one are not seen.
        tower: Changes the whole tower; None: the tower as it is.
        scores: Scores (B, Q, h, w) from cosines (B, Q, h, w) and text embeddings (Q, C), for methods that look at the
            images once more when the queries are known. None: the scores are the cosines.
    """

    name: str
    title: str
    patch_tokens: Callable[[LastBlock], Tensor]
    positions: PositionResize = "bicubic-factor"
    blocks: int = 1
    patches: int = 1
    reads: tuple[int, ...] = ()
    pads: bool = False
    tower: Callable[[VisionTransformer], VisionTransformer] | None = None
    scores: Callable[[LastBlock, Tensor, Tensor], Tensor] | None = None

    def check_tower(self, visual: VisionTransformer) -> None:
        """Raise UserError where a tower has too few blocks, or blocks whose attention is not PyTorch's own."""
        blocks = visual.transformer.resblocks
        if len(blocks) < self.blocks:
            raise UserError(
                f"{self.title} reads blocks by number and needs a CLIP of at least {self.blocks} blocks; this one has"
                f' {len(blocks)}: choose another method, for example "?method=naclip".'
            )
        if not all(isinstance(getattr(block, "attn", None), nn.MultiheadAttention) for block in blocks):
            raise UserError("This CLIP's blocks are open_clip's custom ones, whose attention cannot be changed.")


def query_key(block: LastBlock) -> Tensor:
    """softmax(s · q kᵀ) v: CLIP as it is."""
    return block.attend(block.heads.query, block.heads.key)


def own_value(block: LastBlock) -> Tensor:
    """v: every token keeps its own value (MaskCLIP)."""
    return block.heads.value


def query_query(block: LastBlock) -> Tensor:
    """softmax(s · q qᵀ) v (ClearCLIP)."""
    return block.attend(block.heads.query, block.heads.query)


def key_key(block: LastBlock) -> Tensor:
    """softmax(s · k kᵀ) v."""
    return block.attend(block.heads.key, block.heads.key)


def query_query_and_key_key(block: LastBlock) -> Tensor:
    """(softmax(s · q qᵀ) + softmax(s · k kᵀ)) v, whose rows of weights sum to 2 (SCLIP)."""
    return query_query(block) + key_key(block)


def mean_self_self(block: LastBlock) -> Tensor:
    """½ (softmax(s · q qᵀ) + softmax(s · k kᵀ)) v."""
    return query_query_and_key_key(block) / 2


def key_key_nearby(block: LastBlock, sigma: float = 5.0) -> Tensor:
    """softmax(s · k kᵀ + Γ) v, which prefers near patches (NACLIP)."""
    return block.attend(block.heads.key, block.heads.key, gaussian_bias(block.grid, sigma, block.image.device))


def nearby_only(block: LastBlock, sigma: float = 5.0) -> Tensor:
    """softmax(c · Γ) v with c = s · mean of ‖q‖‖k‖ over heads and pairs of tokens of an image."""
    query, key, value = block.heads
    lengths = query.norm(dim=-1).mean(dim=-1) * key.norm(dim=-1).mean(dim=-1)
    strength = lengths.mean(dim=-1)[:, None, None, None] / query.shape[-1] ** 0.5
    weights = (strength * gaussian_bias(block.grid, sigma, value.device)).softmax(dim=-1)
    return weights @ value


FULL, REDUCED = LastBlock.full, LastBlock.reduced
"""Tails: how mixed values become patch tokens."""


def _mixing(
    name: str,
    title: str,
    values: Callable[[LastBlock], Tensor],
    tail: Callable[[LastBlock, Tensor], Tensor],
    **facts: Any,
) -> Method:
    """A method that mixes values within the last block."""
    return Method(name, title, lambda block: tail(block, values(block)), **facts)


def _resclip(name: str, title: str, method: ResClip) -> Method:
    blocks = max(RESIDUAL_BLOCKS) + 2
    return Method(name, title, method.first_pass, blocks=blocks, reads=RESIDUAL_BLOCKS, scores=method.scores)


_PADDED: dict[str, Any] = {"positions": "bicubic", "pads": True}
_RELEASED: dict[str, Any] = {**_PADDED, "tower": with_exact_gelu}
_REFINED = partial(refined_scores, key_smoothing=1.0, prompt_denoising=0.5)
_OPEN_CLIP: dict[str, Any] = {"positions": "bicubic-antialias"}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _mixing("maskclip", "MaskCLIP", own_value, FULL, **_RELEASED),
        _mixing("maskclip_quickgelu", "MaskCLIP with CLIP's own activation", own_value, FULL, **_PADDED),
        _mixing("maskclip_refined", "refined MaskCLIP", own_value, FULL, scores=_REFINED, **_RELEASED),
        _mixing("sclip", "SCLIP", query_query_and_key_key, FULL),
        _mixing("clearclip", "ClearCLIP", query_query, REDUCED),
        _mixing("naclip", "NACLIP", key_key_nearby, REDUCED),
        Method("scclip", "SC-CLIP", scclip, blocks=SC_BLOCKS, patches=NEIGHBOURS + 1, reads=SC_READS),
        Method("gem", "GEM", gem, blocks=GEM_DEPTH - 1, reads=tuple(range(1 - GEM_DEPTH, 0)), **_OPEN_CLIP),
        _resclip("resclip", "ResCLIP on NACLIP", ResClip()),
        _resclip("resclip_clearclip", "ResCLIP on ClearCLIP", ResClip("clearclip")),
        _resclip("resclip_sclip", "ResCLIP on SCLIP", ResClip("sclip")),
        # CLIP without change, and ablations.
        _mixing("clip", "CLIP", query_key, FULL),
        _mixing("vanilla_reduced", "CLIP with reduced tail", query_key, REDUCED),
        _mixing("maskclip_full", "MaskCLIP on SCLIP's grid", own_value, FULL),
        _mixing("maskclip_reduced", "MaskCLIP with reduced tail", own_value, REDUCED),
        _mixing("sclip_reduced", "SCLIP with reduced tail", query_query_and_key_key, REDUCED),
        _mixing("clearclip_residual", "ClearCLIP with full tail", query_query, FULL),
        _mixing("kk_reduced", "key-key attention with reduced tail", key_key, REDUCED),
        _mixing("kk_full", "key-key attention with full tail", key_key, FULL),
        _mixing("naclip_std2", "NACLIP with σ = 2", partial(key_key_nearby, sigma=2.0), REDUCED),
        _mixing("naclip_nonly", "NACLIP by neighbourhood only", nearby_only, REDUCED),
        # The methods of this toolkit's first versions.
        _mixing("value", "value path", own_value, REDUCED, **_OPEN_CLIP),
        _mixing("self_self", "self-self attention", mean_self_self, REDUCED, **_OPEN_CLIP),
    )
}


def method_named(name: str) -> Method:
    """Find a method; raises UserError with the closest names for an unknown one."""
    if name not in METHODS:
        near = closest(name, METHODS)
        hint = near if near.startswith(" Did you mean") else ""
        raise UserError(f'"{name}" is no training-free method.{hint} Known: {", ".join(METHODS)}.')
    return METHODS[name]


def default_method(visual: VisionTransformer, patches: int) -> Method:
    """SC-CLIP for towers of 12 blocks, which its indices are for, and grids of at least 31 patches; else NACLIP."""
    scclip_fits = len(visual.transformer.resblocks) == 12 and patches >= METHODS["scclip"].patches
    return METHODS["scclip" if scclip_fits else "naclip"]
