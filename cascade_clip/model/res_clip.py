"""ResCLIP (Yang et al. 2025): attention of middle blocks, and feedback from the classes of a first pass."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.model.last_block import LastBlock, attend, gaussian_bias, heads_of, patch_cosines
from cascade_clip.model.pamr import refine_maps

RESIDUAL_BLOCKS = (5, 6, 7, 8)
"""Blocks (0-based) whose attention is mixed into the last one's."""
_ROW_SUM = 2.0
_LOGIT_SCALE = 40.0
_SIGMA = 5.0
_LONGEST_BLUR = 31


@dataclass(frozen=True)
class ResClip:
    """ResCLIP on one of three methods. Four of its numbers are tuned for each dataset; here are those for PC59.

    Attributes:
        base: Method whose attention is mixed with that of the middle blocks.
        least_score: Pixels of the first pass whose probability is below it count as query 0.
        sharpness: Factor of the second pass's attention logits, τs.
        feedback_share: Share of the feedback in them, λs.
        residual_share: Share of the middle blocks' attention, λr.
        check_paths: Whether patches of one class weigh less where another class lies between them.
    """

    base: Literal["naclip", "clearclip", "sclip"] = "naclip"
    least_score: float = 0.25
    sharpness: float = 1.8
    feedback_share: float = 0.7
    residual_share: float = 0.4
    check_paths: bool = True

    def first_pass(self, block: LastBlock) -> Tensor:
        """Patch tokens (B, N, W) without feedback."""
        near = gaussian_bias(block.grid, _SIGMA, block.image.device) if self.base == "naclip" else None
        return self._pass(block, near, factor=1.0)

    def second_pass(self, block: LastBlock, cosines: Tensor) -> Tensor:
        """Patch tokens (B, N, W) with feedback from the cosines (B, Q, h, w) of the first pass."""
        classes = patch_classes(block, cosines, self.least_score)
        feedback = torch.stack([feedback_attention(one, check_paths=self.check_paths) for one in classes])
        # As released, feedback and its share are rounded to half precision.
        half = (feedback / feedback.amax(dim=(1, 2), keepdim=True)).half()
        bias = self.sharpness * (self.feedback_share * half).float()[:, None]
        if self.base == "naclip":
            bias = bias + gaussian_bias(block.grid, _SIGMA, block.image.device)
        return self._pass(block, bias, factor=self.sharpness * (1 - self.feedback_share))

    def scores(self, block: LastBlock, cosines: Tensor, text: Tensor) -> Tensor:
        """Cosines (B, Q, h, w) of the second pass from those of the first and text embeddings (Q, C)."""
        return patch_cosines(block.project(self.second_pass(block, cosines)), text, block.grid)

    def _pass(self, block: LastBlock, bias: Tensor | None, factor: float) -> Tensor:
        query, key, value = block.heads
        compared = {"naclip": (key,), "clearclip": (query,), "sclip": (query, key)}[self.base]
        scale = factor * query.shape[-1] ** -0.5
        own = torch.stack([attend(one, one, value, bias, scale) for one in compared]).sum(dim=0)
        mixed = _ROW_SUM * ((1 - self.residual_share) * own + self.residual_share * _residual(block))
        return block.full(mixed) if self.base == "sclip" else block.reduced(mixed)


def _residual(block: LastBlock) -> Tensor:
    """Values (B, n, 1 + N, d) mixed by the mean attention of the middle blocks, which both passes read."""
    if "residual" not in block.kept:
        earlier = [heads_of(block.blocks[index], block.inputs[index]) for index in RESIDUAL_BLOCKS]
        mixed = [attend(query, key, block.heads.value) for query, key, _ in earlier]
        block.kept["residual"] = torch.stack(mixed).mean(dim=0)
    return block.kept["residual"]


def patch_classes(block: LastBlock, cosines: Tensor, least_score: float) -> Tensor:
    """The most frequent query (B, h, w) int64 among the pixels of each patch, after PAMR; ties go to the lowest.

    From cosines (B, Q, h, w); pixels whose probability is below `least_score` count as query 0.
    """
    maps = F.interpolate(cosines, size=block.image.shape[-2:], mode="bilinear", align_corners=False)
    best, labels = (_LOGIT_SCALE * refine_maps(block.image, maps)).softmax(dim=1).max(dim=1)
    labels = labels.masked_fill(best < least_score, 0)
    patch = int(block.visual.patch_size[0])
    cells = labels.unfold(1, patch, patch).unfold(2, patch, patch)
    return cells.flatten(3).mode(dim=-1).values


def feedback_attention(classes: Tensor, *, check_paths: bool) -> Tensor:
    """Attention (1 + N, 1 + N) float32 among patches of one class, from classes (h, w); 0 for the class token.

    As released, it is blurred along the row of all patches as if they lay in a line.
    """
    flat = classes.flatten()
    same = flat[:, None] == flat
    weights = same.float()
    if check_paths:
        weights = torch.where(
            _crosses_another_class(classes, same), weights * _decay(tuple(classes.shape), classes.device), weights
        )
    length = min(len(flat), _LONGEST_BLUR)
    length -= 1 - length % 2
    place = torch.arange(length, dtype=torch.float32, device=classes.device) - length // 2
    kernel = torch.exp(-(place**2) / (2 * _SIGMA**2))
    blurred = F.conv1d(weights[:, None], (kernel / kernel.sum())[None, None], padding=length // 2)[:, 0].relu()
    return F.pad(blurred / (blurred.sum(dim=-1, keepdim=True) + 1e-8), (1, 0, 1, 0))


def _distances(grid: tuple[int, int], device: torch.device) -> tuple[Tensor, int]:
    """Chebyshev distances (h, w, h, w) int64 of patches of a grid (h, w), and the largest of them, at least 1."""
    rows, columns = (torch.arange(length, device=device) for length in grid)
    vertical, horizontal = (rows[:, None] - rows).abs(), (columns[:, None] - columns).abs()
    return torch.maximum(vertical[:, None, :, None], horizontal[:, None]), max(*grid, 2) - 1


def _decay(grid: tuple[int, ...], device: torch.device) -> Tensor:
    """exp(-distance / largest distance) of patches, (N, N)."""
    distance, longest = _distances((grid[0], grid[1]), device)
    return torch.exp(-distance.flatten(2).flatten(0, 1) / longest)


def _crosses_another_class(classes: Tensor, same: Tensor) -> Tensor:
    """Whether the way from a patch to another one of its class meets a different class, (N, N) bool.

    As released, only the first c/m of the way is looked at, c being the distance and m the largest on the grid.
    """
    h, w = classes.shape
    distance, longest = _distances((h, w), classes.device)
    own = classes[:, :, None, None]
    crosses = torch.zeros_like(distance, dtype=torch.bool)
    for step in range(1, longest + 1):
        rows, columns = (_on_the_way(length, step, longest, classes.device) for length in (h, w))
        met = classes[rows[:, None, :, None], columns[None, :, None, :]]
        crosses |= (met != own) & (distance >= step)
    return crosses.flatten(2).flatten(0, 1) & same


def _on_the_way(length: int, step: int, steps: int, device: torch.device) -> Tensor:
    """Index (length, length) int64 after `step` of `steps` from one index to another, half rounded to even."""
    place = torch.arange(length, dtype=torch.float64, device=device)
    return ((place[:, None] * (steps - step) + place * step) / steps).round().long()
