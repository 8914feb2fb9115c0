"""Photometric distortion of training images, bit for bit like OpenCV's 8-bit arithmetic (SPEC section 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_LEVELS = np.arange(256)
# Fixed-point reciprocals of OpenCV's RGB to HSV; entry 0 stays 0, which makes saturation and hue of black and grey 0.
_SATURATION_FACTOR = np.rint(255 * 4096 / np.maximum(_LEVELS, 1)).astype(np.int32) * (_LEVELS > 0)
_HUE_FACTOR = np.rint(180 * 4096 / (6 * np.maximum(_LEVELS, 1))).astype(np.int32) * (_LEVELS > 0)
# Which of the four values (v, p, q, t) is red, green and blue in each sextant of the hue.
_SEXTANTS = np.array([[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]])


def brightness(image: Image, beta: float) -> Image:
    """Add `beta` to every value of an (H, W, C) uint8 image; clipped to 0..255, then truncated."""
    return _linear_table(1.0, beta)[image]


def contrast(image: Image, alpha: float) -> Image:
    """Multiply every value of an (H, W, C) uint8 image by `alpha`; clipped to 0..255, then truncated."""
    return _linear_table(alpha, 0.0)[image]


def saturation(image: Image, alpha: float) -> Image:
    """Multiply the HSV saturation of an (H, W, 3) uint8 RGB image by `alpha`, through 8-bit HSV."""
    hsv = rgb_to_hsv(image)
    hsv[..., 1] = _linear_table(alpha, 0.0)[hsv[..., 1]]
    return hsv_to_rgb(hsv)


def hue(image: Image, delta: int) -> Image:
    """Turn the HSV hue of an (H, W, 3) uint8 RGB image by `delta` (modulo 180), through 8-bit HSV."""
    hsv = rgb_to_hsv(image)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + delta) % 180
    return hsv_to_rgb(hsv)


def _linear_table(alpha: float, beta: float) -> NDArray[np.uint8]:
    values = np.arange(256, dtype=np.float32) * np.float32(alpha) + np.float32(beta)
    return values.clip(0, 255).astype(np.uint8)


def rgb_to_hsv(image: Image) -> Image:
    """Turn RGB into OpenCV's 8-bit HSV.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (H, W, 3) uint8: hue 0..179, saturation 0..255, value 0..255 (SPEC section 1).
    """
    red, green, blue = (image[..., channel].astype(np.int32) for channel in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    turn = np.where(
        value == red, green - blue, np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    )
    angle = (turn * _HUE_FACTOR[spread] + 2048) >> 12
    hsv = np.empty(image.shape, np.uint8)
    hsv[..., 0] = angle + 180 * (angle < 0)
    hsv[..., 1] = (spread * _SATURATION_FACTOR[value] + 2048) >> 12
    hsv[..., 2] = value
    return hsv


def hsv_to_rgb(hsv: Image) -> Image:
    """Turn OpenCV's 8-bit HSV into RGB, by the usual sextants in float32.

    Args:
        hsv: (H, W, 3) uint8: hue 0..179, saturation 0..255, value 0..255.

    Returns:
        (H, W, 3) uint8 RGB (SPEC section 1).
    """
    angle = np.arange(256, dtype=np.float32) * np.float32(6 / 180)
    sextant_of = np.floor(angle).astype(np.intp)
    fraction = (angle - sextant_of)[hsv[..., 0]]
    unit = np.arange(256, dtype=np.float32) * np.float32(1 / 255)
    share, value = unit[hsv[..., 1]], unit[hsv[..., 2]]
    one = np.float32(1)
    candidates = np.stack(
        [value, value * (one - share), value * (one - share * fraction), value * (one - share * (one - fraction))],
        axis=-1,
    )
    levels = np.rint(candidates * np.float32(255)).astype(np.uint8)
    return np.take_along_axis(levels, _SEXTANTS[sextant_of % 6][hsv[..., 0]], axis=-1)


def photometric_distortion(image: Image, rng: np.random.Generator) -> Image:
    """Distort brightness, contrast, saturation and hue, each with probability 0.5.

    A coin decides whether contrast comes before or after the colours.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: Source of every draw.

    Returns:
        (H, W, 3) uint8 RGB (SPEC section 1, row "photometric").
    """
    if _coin(rng):
        image = brightness(image, rng.uniform(-32, 32))
    contrast_first = _coin(rng)
    if contrast_first and _coin(rng):
        image = contrast(image, rng.uniform(0.5, 1.5))
    if _coin(rng):
        image = saturation(image, rng.uniform(0.5, 1.5))
    if _coin(rng):
        image = hue(image, int(rng.integers(-18, 18)))
    if not contrast_first and _coin(rng):
        image = contrast(image, rng.uniform(0.5, 1.5))
    return image


def _coin(rng: np.random.Generator) -> bool:
    return bool(rng.integers(2))
