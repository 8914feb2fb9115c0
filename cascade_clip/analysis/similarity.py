"""How alike the patches of an image are to one of them, block by block (paper, Figures 1 and 6)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F  # noqa: N812

from cascade_clip.analysis.observed_model import block_tokens
from cascade_clip.config.schema import DataConfig
from cascade_clip.data.resize import resize_bilinear, test_size
from cascade_clip.data.transforms import normalise
from cascade_clip.errors import UserError
from cascade_clip.model.clip.image_encoder import ImageEncoder

MOST_PATCHES = 2**14
"""Most patches of an image: a square of 2048 pixels with patches of 16."""

Point = tuple[int, int]
"""A pixel (x, y) of the image, from its upper left corner."""


@dataclass(frozen=True, eq=False)
class PatchSimilarity:
    """Cosine similarity of every patch to one patch, after each of the L blocks of one model.

    `cosine` is (L, h, w) float32 in [-1, 1], 1 at the patch itself, whose row and column are `patch`.
    """

    model: str
    cosine: NDArray[np.float32]
    patch: tuple[int, int]

    def means(self, chosen: NDArray[np.bool_] | None = None) -> list[float | None]:
        """Mean similarity after each of L blocks over chosen patches (h, w), all by default, without the patch itself.

        None: no patch is left.
        """
        others = np.ones(self.cosine.shape[1:], bool) if chosen is None else chosen.copy()
        others[self.patch] = False
        if not others.any():
            return [None] * len(self.cosine)
        return [float(values[others].mean(dtype=np.float64)) for values in self.cosine]


def patch_similarity(
    name: str, encoder: ImageEncoder, image: NDArray[np.uint8], point: Point, data: DataConfig, device: torch.device
) -> PatchSimilarity:
    """Compare the token of the patch at a point inside an image with the tokens of all patches.

    The whole image (H, W, 3) uint8 RGB goes through the encoder (on `device`, in evaluation mode, see `encoder_of`) at
    once, its short side at `data.short_side`, both sides rounded to whole patches. Tokens are compared as the next
    block sees them, before any norm or projection. Raises UserError for an image so long and narrow that its patches
    are too many.
    """
    height, width = image.shape[:2]
    resized = test_size(height, width, data.short_side)
    rows, columns = (max(1, round(side / encoder.patch_size)) for side in resized)
    if rows * columns > MOST_PATCHES:
        raise UserError(
            f"The image is {width} x {height} pixels: with its short side at {data.short_side} it has"
            f" {rows * columns:,} patches, at most {MOST_PATCHES:,} are compared. Cut out the part around the point."
        )
    size = (rows * encoder.patch_size, columns * encoder.patch_size)
    pixels = torch.from_numpy(normalise(resize_bilinear(image, *size), data.mean, data.std)).to(device)
    patch = (_cell(point[1], height, rows), _cell(point[0], width, columns))
    index = patch[0] * columns + patch[1]
    cosines = []
    for tokens in block_tokens(encoder, pixels[None]).patch_tokens:
        units = F.normalize(tokens[0].float(), dim=-1)
        cosines.append((units @ units[index]).unflatten(0, (rows, columns)))
    return PatchSimilarity(name, torch.stack(cosines).clamp(-1, 1).cpu().numpy(), patch)


def patches_of_mask(mask: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Which patches of a grid (h, w) lie in a mask (H, W) by at least half of their area."""
    shares = Image.fromarray(mask.astype(np.float32)).resize((grid[1], grid[0]), Image.Resampling.BOX)
    return np.asarray(shares) >= 0.5


def centre_of_mask(mask: NDArray[np.bool_]) -> Point:
    """A pixel (x, y) well inside a mask (H, W), not empty: the centre of the largest square that fits into it.

    The mean of the mask's pixels would lie outside of a ring; of several largest squares the one nearest to it counts.
    """
    sums = np.pad(mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1), ((1, 0), (1, 0)))
    fits, too_large = 1, min(mask.shape) + 1
    while too_large - fits > 1:
        side = (fits + too_large) // 2
        if _squares(sums, side).any():
            fits = side
        else:
            too_large = side
    tops, lefts = np.nonzero(_squares(sums, fits))
    rows, columns = np.nonzero(mask)
    middle = (fits - 1) / 2
    nearest = np.argmin((tops + middle - rows.mean()) ** 2 + (lefts + middle - columns.mean()) ** 2)
    return int(lefts[nearest] + fits // 2), int(tops[nearest] + fits // 2)


def _squares(sums: NDArray[np.int64], side: int) -> NDArray[np.bool_]:
    """Upper left corners of the squares of a side that lie in the mask, from its summed-area table (H + 1, W + 1)."""
    filled = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return filled == side * side


def _cell(position: int, length: int, cells: int) -> int:
    """Which of the cells along a side holds the middle of a pixel."""
    return (2 * position + 1) * cells // (2 * length)
