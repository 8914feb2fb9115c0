"""Photometric distortion of training images, bit for bit like OpenCV's 8-bit arithmetic (SPEC section 1)."""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_LEVELS = np.arange(256)
# Fixed-point reciprocals of OpenCV's RGB to HSV; entry 0 stays 0, which makes saturation and hue of black and grey 0.
_SATURATION_FACTOR = np.rint(255 * 4096 / np.maximum(_LEVELS, 1)).astype(np.int32) * (_LEVELS > 0)
_HUE_FACTOR = np.rint(180 * 4096 / (6 * np.maximum(_LEVELS, 1))).astype(np.int32) * (_LEVELS > 0)
_UNIT = _LEVELS.astype(np.float32) * np.float32(1 / 255)
_ANGLE = _LEVELS.astype(np.float32) * np.float32(6 / 180)
_SEXTANT = np.floor(_ANGLE).astype(np.intp)
# In each sextant of the hue one channel has the value, one the lowest level, and one lies between: it rises with the
# hue in even sextants and falls in odd ones.
_FRACTION = _ANGLE - _SEXTANT.astype(np.float32)
_MIDDLE = np.where(_SEXTANT % 2 == 1, _FRACTION, np.float32(1) - _FRACTION)
_HIGH, _LOW, _BETWEEN = range(3)
_PARTS = np.array(
    [
        [_HIGH, _BETWEEN, _LOW, _LOW, _BETWEEN, _HIGH],
        [_BETWEEN, _HIGH, _HIGH, _BETWEEN, _LOW, _LOW],
        [_LOW, _LOW, _BETWEEN, _HIGH, _HIGH, _BETWEEN],
    ],
    np.uint8,
)[:, _SEXTANT % 6]


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
    """OpenCV's 8-bit HSV of (H, W, 3) uint8 RGB: hue 0..179, saturation and value 0..255 (SPEC section 1)."""
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
    """Turn OpenCV's 8-bit HSV, as `rgb_to_hsv` gives it, into (H, W, 3) uint8 RGB, by sextants in float32."""
    hues, value = hsv[..., 0], np.ascontiguousarray(hsv[..., 2])
    share, level = _UNIT[hsv[..., 1]], _UNIT[value]
    low = np.rint(level * (1 - share) * 255).astype(np.uint8)
    middle = np.rint(level * (1 - share * _MIDDLE[hues]) * 255).astype(np.uint8)
    rgb = np.empty(hsv.shape, np.uint8)
    for channel, parts in enumerate(_PARTS):
        part = parts[hues]
        rgb[..., channel] = np.where(part == _HIGH, value, np.where(part == _LOW, low, middle))
    return rgb


def photometric_distortion(image: Image, rng: np.random.Generator) -> Image:
    """Distort brightness, contrast, saturation and hue of an image (H, W, 3) uint8 RGB, each with probability 0.5.

    A coin decides whether contrast comes before or after the colours (SPEC section 1, row "photometric").
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
