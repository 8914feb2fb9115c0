"""Banks of tileable noise, built once a process, from which textures take random windows."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
BANK_SIDE = 512
"""Side of a bank in pixels; windows may be at most half as large."""


def _spectral_noise(seed: int, scale_y: float, scale_x: float) -> Array:
    """White noise under a Gaussian of the given scales (pixels), stretched to mean 0.5 and standard deviation 0.2."""
    white = np.random.default_rng([seed, BANK_SIDE]).standard_normal((BANK_SIDE, BANK_SIDE))
    fy = np.fft.fftfreq(BANK_SIDE)[:, None]
    fx = np.fft.rfftfreq(BANK_SIDE)[None, :]
    envelope = np.exp(-2 * np.pi**2 * ((fy * scale_y) ** 2 + (fx * scale_x) ** 2))
    smooth = np.fft.irfft2(np.fft.rfft2(white) * envelope, s=white.shape)
    smooth = (smooth - smooth.mean()) / smooth.std()
    noise: Array = np.clip(0.5 + 0.2 * smooth, 0, 1).astype(np.float32)
    return noise


@cache
def noise_bank(scale_y: float, scale_x: float) -> Array:
    """Return smooth noise with the given correlation lengths.

    Args:
        scale_y: Correlation length down the image in pixels.
        scale_x: Correlation length along the image in pixels.

    Returns:
        Array (512, 512) float32 in 0..1 with mean 0.5; tileable; equal for equal arguments.
    """
    return _spectral_noise(int(scale_y * 1000 + scale_x), scale_y, scale_x)


@cache
def cell_bank(cell: int) -> tuple[Array, Array]:
    """Return Worley cells: pebbles of about `cell` pixels.

    Args:
        cell: Mean distance of the centres in pixels; a divisor of 512.

    Returns:
        Two arrays (512, 512) float32: the distance to the border between cells in pixels (0 on the border), and a
        random tone of the cell in 0..1.
    """
    cells = BANK_SIDE // cell
    rng = np.random.default_rng([cell, BANK_SIDE, 7])
    offsets = rng.uniform(0.1, 0.9, (2, cells, cells)).astype(np.float32)
    tones = rng.uniform(0, 1, (cells, cells)).astype(np.float32)
    y, x = np.mgrid[0:BANK_SIDE, 0:BANK_SIDE].astype(np.float32) / cell
    row, column = y.astype(np.int64), x.astype(np.int64)
    nearest = np.full((BANK_SIDE, BANK_SIDE), np.inf, np.float32)
    second = nearest.copy()
    tone = np.zeros_like(nearest)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            r, c = (row + dy) % cells, (column + dx) % cells
            distance = np.hypot(row + dy + offsets[0, r, c] - y, column + dx + offsets[1, r, c] - x)
            tone = np.where(distance < nearest, tones[r, c], tone)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    return (second - nearest) * (cell / 2), tone


def window(rng: np.random.Generator, bank: Array, height: int, width: int) -> Array:
    """Cut a random window from a bank.

    Args:
        rng: Source of the position.
        bank: Array (512, 512).
        height: Height of the window, at most 512.
        width: Width of the window, at most 512.

    Returns:
        A view (height, width) float32 of the bank: not to be written to.
    """
    top = int(rng.integers(0, BANK_SIDE - height + 1))
    left = int(rng.integers(0, BANK_SIDE - width + 1))
    return bank[top : top + height, left : left + width]
