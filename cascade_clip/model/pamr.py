"""PAMR, pixel-adaptive mask refinement (Araslanov and Roth 2020): class maps follow the edges of the image.

Every step replaces a pixel's scores by a weighted mean of those of its neighbours. The weights depend on the image
alone, so that a step is the product of one sparse matrix, a row a pixel, with the maps as columns.
"""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

DEFAULT_STEPS = 10
DEFAULT_DILATIONS = (8, 16)
"""What NACLIP refines with."""
MAPS_AT_ONCE = 16
"""Maps that a product takes: a pixel's scores fill one cache line (measured against 8, 21, 32 and 56)."""
ROWS_AT_ONCE = 16
"""Rows of pixels whose weights are computed together, so that they stay in the cache."""
_SHARPNESS = 0.1
_NEVER_ZERO = 1e-8


@torch.no_grad()
def refine_maps(
    image: Tensor, maps: Tensor, *, steps: int = DEFAULT_STEPS, dilations: Sequence[int] = DEFAULT_DILATIONS
) -> Tensor:
    """Refine maps along the edges of their images (`training_free/SPEC.md` section 4).

    Images (B, 3, H, W) are float, normalised, maps (B, C, h, w) float scores of any range, which are resized to the
    images bilinearly, corners on corners. In each of `steps` every pixel becomes the mean of its 8 neighbours at each
    distance of `dilations`, in pixels. Gives (B, C, H, W) float32 on the maps' device, each value between the smallest
    and the largest of its map.
    """
    sized = maps.float()
    if maps.shape[-2:] != image.shape[-2:]:
        sized = F.interpolate(sized, image.shape[-2:], mode="bilinear", align_corners=True)
    # Sparse products are not supported on Apple's GPUs.
    device = torch.device("cpu") if maps.device.type == "mps" else maps.device
    pairs = zip(image.to(device).float(), sized.to(device), strict=True)
    with torch.autocast(device.type, enabled=False):
        refined = [_refined(neighbour_matrix(pixels, dilations), own, steps) for pixels, own in pairs]
    return torch.stack(refined).to(maps.device)


def neighbour_matrix(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Weights of every pixel's neighbours in an image (3, H, W): a sparse CSR matrix (H·W, H·W) float32."""
    height, width = image.shape[1:]
    weights = neighbour_weights(image, dilations)
    down, across = torch.tensor(_neighbours(dilations), dtype=torch.int32, device=image.device).T
    rows, columns = (torch.arange(side, dtype=torch.int32, device=image.device)[:, None] for side in (height, width))
    rows, columns = (rows + down).clamp(0, height - 1), (columns + across).clamp(0, width - 1)
    indices = (rows * width)[:, None] + columns
    pixels, neighbours = height * width, weights.shape[-1]
    ends = torch.arange(0, pixels * neighbours + 1, neighbours, dtype=torch.int32, device=image.device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support is in beta|invariant checks)")
        return torch.sparse_csr_tensor(
            ends, indices.flatten(), weights.flatten(), (pixels, pixels), check_invariants=False
        )


def neighbour_weights(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Weights (H, W, 8·|D|) float32 of every pixel's neighbours, 1 in sum, in the order of `_neighbours`.

    A neighbour beyond the border is the border's pixel. Colour differences count relative to their spread around the
    pixel.
    """
    height, width = image.shape[1:]
    places, reach = _neighbours(dilations), max(dilations)
    padded = F.pad(image[None], (reach, reach, reach, reach), mode="replicate")[0]
    weights = torch.empty(height, width, len(places), device=image.device)
    for top in range(0, height, ROWS_AT_ONCE):
        rows = min(ROWS_AT_ONCE, height - top)
        around = torch.stack(
            [
                padded[:, reach + top + down : reach + top + down + rows, reach + across : reach + across + width]
                for down, across in places
            ]
        )
        around -= image[:, top : top + rows]
        likeness = _likeness(around, centres=len(dilations))
        weights[top : top + rows] = likeness.softmax(dim=0).permute(1, 2, 0)
    return weights


def _likeness(differences: Tensor, centres: int) -> Tensor:
    """Logits (J, rows, W) of neighbours from their differences (J, 3, rows, W) to the centre, which they overwrite.

    The spread is the unbiased standard deviation of the J neighbours and of the centre, counted `centres` times.
    """
    samples = len(differences) + centres
    mean = differences.sum(dim=0) / samples
    squares = (differences - mean).square_().sum(dim=0) + centres * mean.square()
    spread = (squares / (samples - 1)).sqrt_()
    return differences.abs_().div_(spread.mul_(_SHARPNESS).add_(_NEVER_ZERO)).mean(dim=1).neg_()


def _neighbours(dilations: Sequence[int]) -> list[tuple[int, int]]:
    """(down, across) of the 8·|D| neighbours, dilation by dilation, each row by row."""
    ring = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1) if down or across]
    return [(down * dilation, across * dilation) for dilation in dilations for down, across in ring]


def _refined(matrix: Tensor, maps: Tensor, steps: int) -> Tensor:
    """Maps (C, H, W) after `steps` products, `MAPS_AT_ONCE` at a time."""
    refined = torch.empty_like(maps)
    for first in range(0, len(maps), MAPS_AT_ONCE):
        some = slice(first, first + MAPS_AT_ONCE)
        # Of a single map, `contiguous` would keep strides that the product takes for another layout.
        columns = maps.new_empty(matrix.shape[0], len(maps[some])).copy_(maps[some].flatten(1).T)
        spare = torch.empty_like(columns)
        for _ in range(steps):
            # Fresh memory for every product would take longer than the product.
            torch.addmm(columns, matrix, columns, beta=0, out=spare)
            columns, spare = spare, columns
        refined[some] = columns.T.unflatten(1, maps.shape[1:])
    return refined
