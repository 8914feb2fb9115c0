"""Procedural textures of stuff: each draws a colour field from a random generator.

They are cut at random places from banks of tileable noise, which are computed once per process.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Texture = Callable[[np.random.Generator, int, int], Array]
RGB = tuple[float, float, float]
BANK_SIDE = 512
"""Side of a bank in pixels; windows may be at most half as large."""


@cache
def noise_bank(scale_y: float, scale_x: float) -> Array:
    """Smooth tileable noise (512, 512) float32 in 0..1, mean 0.5; correlation lengths are down and along, in pixels."""
    seed = int(scale_y * 1000 + scale_x)
    white = np.random.default_rng([seed, BANK_SIDE]).standard_normal((BANK_SIDE, BANK_SIDE))
    fy = np.fft.fftfreq(BANK_SIDE)[:, None]
    fx = np.fft.rfftfreq(BANK_SIDE)[None, :]
    envelope = np.exp(-2 * np.pi**2 * ((fy * scale_y) ** 2 + (fx * scale_x) ** 2))
    smooth = np.fft.irfft2(np.fft.rfft2(white) * envelope, s=white.shape)
    smooth = (smooth - smooth.mean()) / smooth.std()
    return np.clip(0.5 + 0.2 * smooth, 0, 1).astype(np.float32)


@cache
def cell_bank(cell: int) -> tuple[Array, Array]:
    """Worley cells, pebbles of about `cell` pixels, a divisor of 512.

    Two arrays (512, 512) float32: the distance to the border between cells in pixels (0 on the border), and a random
    tone of the cell in 0..1.
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
    """A view (height, width) of a random place of a bank (512, 512): not to be written to."""
    top = int(rng.integers(0, BANK_SIDE - height + 1))
    left = int(rng.integers(0, BANK_SIDE - width + 1))
    return bank[top : top + height, left : left + width]


def _blend(weight: Array, low: RGB, high: RGB) -> Array:
    """Mix two colours (0..255) by a weight (H, W) clipped to 0..1 -> (H, W, 3)."""
    first = np.asarray(low, np.float32)
    return first + np.clip(weight, 0, 1)[..., None] * (np.asarray(high, np.float32) - first)


def _axes(rng: np.random.Generator, height: int, width: int) -> tuple[Array, Array]:
    """Pixel coordinates with a random origin: (H, 1) and (1, W)."""
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(rng.uniform(0, 64))
    x = np.arange(width, dtype=np.float32)[None, :] + np.float32(rng.uniform(0, 64))
    return y, x


def _noise(rng: np.random.Generator, height: int, width: int, scale_y: float, scale_x: float) -> Array:
    return window(rng, noise_bank(scale_y, scale_x), height, width)


def _cells(rng: np.random.Generator, height: int, width: int, cell: int) -> tuple[Array, Array]:
    """The same part of both arrays of `cell_bank`."""
    top, left = rng.integers(0, BANK_SIDE - max(height, width) + 1, 2)
    border, tone = (bank[top : top + height, left : left + width] for bank in cell_bank(cell))
    return border, tone


def _seam(coordinate: Array, period: float, gap: float) -> Array:
    """1 within a tile, falling softly to 0 on the seams between tiles of the given period."""
    inside = np.abs(np.mod(coordinate, period) - period / 2)
    return np.clip(period / 2 - gap / 2 - inside + 0.5, 0, 1)


def _tone(row: Array, column: Array, salt: int) -> Array:
    """A fixed pseudo-random tone in 0..1 of whole cell coordinates, by an integer hash: the same on every machine."""
    key = row.astype(np.int64) * 73_856_093 + column.astype(np.int64) * 19_349_663 + salt * 83_492_791
    key = ((key ^ (key >> 13)) * 1_274_126_177) & 0xFFFFFFFF
    return (((key ^ (key >> 16)) & 0xFFFF) / 0xFFFF).astype(np.float32)


def grass(rng: np.random.Generator, height: int, width: int) -> Array:
    """Upright blades in several greens."""
    blades = _noise(rng, height, width, 2.2, 0.6)
    patches = _noise(rng, height, width, 9, 9)
    return _blend(1.7 * blades + 0.5 * patches - 0.6, (30, 78, 22), (132, 178, 62))


def sand(rng: np.random.Generator, height: int, width: int) -> Array:
    """Fine grain over soft dune ripples."""
    y, _ = _axes(rng, height, width)
    bend = _noise(rng, height, width, 12, 12)
    ripples = np.sin(y / rng.uniform(2.2, 3.4) + 14 * bend)
    grain = _noise(rng, height, width, 0.4, 0.4)
    return _blend(0.5 + 0.16 * ripples + 0.7 * (grain - 0.5), (190, 156, 100), (240, 214, 160))


def water(rng: np.random.Generator, height: int, width: int) -> Array:
    """Rolling waves with bright crests."""
    y, x = _axes(rng, height, width)
    bend = _noise(rng, height, width, 5, 12)
    wave = np.sin(y / rng.uniform(1.5, 2.1) + 11 * bend + 0.06 * x)
    crest = np.clip(wave - 0.72, 0, 1) * 3.2 * _noise(rng, height, width, 5, 9)
    field = _blend(0.5 + 0.38 * wave, (14, 78, 132), (52, 150, 186))
    return field + crest[..., None] * 110


def snow(rng: np.random.Generator, height: int, width: int) -> Array:
    """Soft drifts with glints."""
    drifts = _noise(rng, height, width, 9, 9)
    glints = _noise(rng, height, width, 0.4, 0.4) > 0.93
    field = _blend(0.2 + 1.1 * drifts, (190, 206, 232), (250, 252, 255))
    field[glints] = 255
    return field


def brick_wall(rng: np.random.Generator, height: int, width: int) -> Array:
    """Courses of bricks in mortar."""
    y, x = _axes(rng, height, width)
    rise = rng.uniform(7, 9.5)
    row = np.floor(y / rise)
    shifted = x + np.mod(row, 2) * rise
    length = 2 * rise
    solid = _seam(y, rise, 1.6) * _seam(shifted, length, 1.6)
    tone = _tone(row, np.floor(shifted / length), int(rng.integers(99)))
    rough = _noise(rng, height, width, 0.6, 0.6)
    bricks = _blend(0.75 * tone + 0.8 * (rough - 0.4), (122, 48, 34), (188, 92, 66))
    mortar = np.asarray((196, 186, 174), np.float32)
    return mortar + solid[..., None] * (bricks - mortar)


def wooden_floor(rng: np.random.Generator, height: int, width: int) -> Array:
    """Planks with grain along them."""
    y, x = _axes(rng, height, width)
    rise = rng.uniform(10, 14)
    row = np.floor(y / rise)
    shifted = x + 37 * _tone(row, row, 3)
    solid = _seam(y, rise, 1.2) * _seam(shifted, 48, 1.2)
    tone = _tone(row, np.floor(shifted / 48), int(rng.integers(99)))
    grain = _noise(rng, height, width, 0.7, 9)
    planks = _blend(0.55 * tone + 1.1 * (grain - 0.3), (112, 66, 28), (196, 136, 76))
    return planks * (0.35 + 0.65 * solid[..., None])


def tiled_floor(rng: np.random.Generator, height: int, width: int) -> Array:
    """Pale square tiles, light and dark in turn."""
    y, x = _axes(rng, height, width)
    side = rng.uniform(11, 15)
    solid = _seam(y, side, 1.4) * _seam(x, side, 1.4)
    dark = np.mod(np.floor(y / side) + np.floor(x / side), 2)
    cloudy = _noise(rng, height, width, 3, 3)
    tiles = _blend(0.75 * dark + 0.3 * cloudy, (206, 216, 212), (120, 156, 158))
    return tiles * (0.55 + 0.45 * solid[..., None])


def gravel(rng: np.random.Generator, height: int, width: int) -> Array:
    """Small grey stones, densely packed."""
    border, tone = _cells(rng, height, width, 4)
    stones = _blend(0.15 + tone, (84, 82, 84), (206, 200, 194))
    return stones * (0.45 + 0.55 * np.clip(border * 1.6, 0, 1)[..., None])


def cobblestones(rng: np.random.Generator, height: int, width: int) -> Array:
    """Large rounded stones with dark joints."""
    border, tone = _cells(rng, height, width, 16)
    rough = _noise(rng, height, width, 0.7, 0.7)
    stones = _blend(0.8 * tone + 0.6 * (rough - 0.3), (96, 100, 112), (162, 162, 164))
    return stones * (0.25 + 0.75 * np.clip(border * 0.45 - 0.1, 0, 1)[..., None] ** 0.6)


def marble(rng: np.random.Generator, height: int, width: int) -> Array:
    """Pale stone with dark winding veins."""
    flow = _noise(rng, height, width, 10, 10)
    detail = _noise(rng, height, width, 4, 4)
    veins = np.exp(-(((flow + 0.3 * detail - 0.65) / 0.035) ** 2)) + 0.4 * np.exp(-(((detail - 0.5) / 0.07) ** 2))
    return _blend(0.85 * veins + 0.25 * flow, (238, 232, 226), (92, 88, 98))


def cloudy_sky(rng: np.random.Generator, height: int, width: int) -> Array:
    """Blue sky with white clouds."""
    clouds = 0.75 * _noise(rng, height, width, 7, 12) + 0.25 * _noise(rng, height, width, 3, 3)
    return _blend((clouds - 0.45) * 5, (104, 168, 236), (250, 250, 252))


def lava(rng: np.random.Generator, height: int, width: int) -> Array:
    """Dark crust with glowing cracks."""
    border, _ = _cells(rng, height, width, 16)
    rough = _noise(rng, height, width, 1, 1)
    glow = np.exp(-border / 1.5) * (0.5 + _noise(rng, height, width, 5, 5))
    crust = _blend(rough, (22, 14, 14), (70, 44, 38))
    return crust + np.clip(glow, 0, 1)[..., None] * np.asarray((225, 110, 10), np.float32)


_DRAWN: tuple[Texture, ...] = (
    *(grass, sand, water, snow, brick_wall, wooden_floor, tiled_floor),
    *(gravel, cobblestones, marble, cloudy_sky, lava),
)
TEXTURES: Final[dict[str, Texture]] = {draw.__name__.replace("_", " "): draw for draw in _DRAWN}
"""Stuff name -> drawing function (rng, height, width) -> colours (height, width, 3) float32, about 0..255."""
