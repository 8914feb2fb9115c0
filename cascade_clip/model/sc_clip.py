"""SC-CLIP (Bai et al.): outliers among the patches are repaired, similar patches share what they hold."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.model.last_block import LastBlock, attend, heads_of, merge_heads

NEIGHBOURS = 30
_OUTLIER_QUANTILE = 0.95
_LEAST_SIMILARITY = 0.4
_SHARPNESS = 3.0
_CLASS_SHARE = 0.3
EARLY, MIDDLE, SUMMED = 3, 8, range(3, 10)
"""Blocks (0-based) whose outputs are compared and summed; the indices are for 12 blocks."""
SC_READS = tuple(index + 1 for index in SUMMED)
"""Blocks whose inputs these outputs are."""
SC_BLOCKS = SC_READS[-1] + 1
"""Least number of blocks."""


def scclip(block: LastBlock) -> Tensor:
    """Patch tokens (B, N, W) of SC-CLIP as released, every image on its own; at least 31 patches."""
    after = {index: block.inputs[index + 1] for index in SUMMED}
    class_token, patches = block.tokens[:, :1], block.tokens[:, 1:]
    outliers = outlier_mask(lof_scores(patches))
    similarity = _similarity(repair(after[MIDDLE][:, 1:], outliers, block.grid))
    early = _similarity(after[EARLY][:, 1:])
    summed = torch.stack(list(after.values())).sum(dim=0)
    focus = _SHARPNESS * (similarity - similarity.mean(dim=(1, 2), keepdim=True))
    focus = focus.masked_fill(focus < 0, -torch.inf).softmax(dim=-1)
    mended = _aggregate(similarity, repair(patches, outliers, block.grid))
    # Aggregation is linear: once for the sum of both branches.
    branches = _attended(block, mended, focus) + _attended(block, summed[:, 1:], focus)
    return _aggregate(early, branches + _CLASS_SHARE * (class_token + summed[:, :1]))


def lof_scores(patches: Tensor) -> Tensor:
    """Local outlier factor (B, N) of patch tokens (B, N, W) with their 30 neighbours.

    As released, the radius of the token itself takes the place of its neighbours' radii, so that a density is 1 /
    radius.
    """
    # The nearest is the token itself.
    nearest = _squared_distances(patches).topk(NEIGHBOURS + 1, largest=False)
    radius = nearest.values[..., -1]
    of_neighbours = radius.gather(1, nearest.indices[..., 1:].flatten(1)).unflatten(1, (-1, NEIGHBOURS))
    return (radius[..., None] / of_neighbours).mean(dim=-1)


def _squared_distances(patches: Tensor) -> Tensor:
    """Squared Euclidean distances (B, N, N) float32 of patch tokens (B, N, W), as ‖a‖² + ‖b‖² - 2 a·b.

    That is forty times faster than differences, whose digits the product keeps in double precision.
    """
    # Apple's GPUs have no double precision.
    precise = torch.float32 if patches.device.type == "mps" else torch.float64
    centred = patches.to(precise)
    centred = centred - centred.mean(dim=1, keepdim=True)
    squares = centred.square().sum(dim=-1)
    distances = torch.baddbmm(squares[:, :, None] + squares[:, None], centred, centred.transpose(1, 2), alpha=-2)
    return distances.clamp_(min=0).float()


def outlier_mask(scores: Tensor) -> Tensor:
    """Outliers (B, N) bool: the tokens whose score (B, N) lies above the 0.95-quantile of their image."""
    return scores > scores.quantile(_OUTLIER_QUANTILE, dim=-1, keepdim=True)


def repair(patches: Tensor, outliers: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patch tokens (B, N, W) with each outlier (B, N) replaced by the mean of its 8 neighbours that are none.

    An outlier among outliers stays. The released code confuses rows and columns where the grid is not square.
    """
    sound = (~outliers).unflatten(1, grid)[:, None].to(patches.dtype)
    maps = patches.transpose(1, 2).unflatten(2, grid)
    totals, counts = (F.avg_pool2d(part, 3, stride=1, padding=1) for part in (maps * sound, sound))
    means = (totals / counts).flatten(2).transpose(1, 2)
    replaced = outliers & (counts.flatten(1) > 0)
    return torch.where(replaced[..., None], means, patches)


def _similarity(patches: Tensor) -> Tensor:
    """Cosines (B, N, N) of patch tokens (B, N, W) with one another."""
    unit = F.normalize(patches.float(), dim=-1)
    return unit @ unit.transpose(1, 2)


def _aggregate(similarity: Tensor, patches: Tensor) -> Tensor:
    """Average of patches (B, N, W), weighted by similarities (B, N, N) of at least 0.4."""
    weights = similarity.masked_fill(similarity < _LEAST_SIMILARITY, 0)
    return weights @ patches / (weights.sum(dim=-1, keepdim=True) + 1e-6)


def _attended(block: LastBlock, patches: Tensor, focus: Tensor) -> Tensor:
    """The last block's attention (B, N, W) of patches (B, N, W): half `focus` (B, N, N), half similar keys."""
    last = block.blocks[-1]
    _, key, value = heads_of(last, patches)
    return merge_heads(last, (focus[:, None] @ value + attend(key, key, value)) / 2)
