"""Resizing exactly as the released pipeline does it (SPEC section 1), without OpenCV.

One pixel that is off by one level can flip a label near a tie, so the image resize keeps OpenCV's integer arithmetic:
fixed-point weights of 11 bits, columns first, truncation between the passes. Labels are resized by nearest neighbour.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""A window (y1, x1, y2, x2); y2 and x2 are outside."""


def test_size(height: int, width: int, short: int, long: int | None = None) -> tuple[int, int]:  # noqa: PT028  (no test)
    """Size at which an image is segmented: the short side becomes `short`, the aspect is kept.

    Where the long side would then exceed `long`, it becomes `long` and the short side less; None: no limit. Gives
    (height, width), each floor(side x scale + 0.5) in exact arithmetic (SPEC section 1).
    """
    scale = Fraction(short, min(height, width))
    return _scaled(height, width, scale if long is None else min(scale, Fraction(long, max(height, width))))


def train_size(height: int, width: int, long: int, short: int, ratio: float) -> tuple[int, int]:
    """Size of a training image: the largest that fits the target box (floor(long x ratio), floor(short x ratio)).

    `long` and `short` are the sides of the box before the ratio. Gives (height, width), rounded like `test_size` and
    never below 1 (SPEC section 1).
    """
    box_long, box_short = int(long * ratio), int(short * ratio)
    return _scaled(height, width, min(Fraction(box_long, max(height, width)), Fraction(box_short, min(height, width))))


def _scaled(height: int, width: int, scale: Fraction) -> tuple[int, int]:
    half = Fraction(1, 2)
    return max(int(height * scale + half), 1), max(int(width * scale + half), 1)


def resize_bilinear(image: NDArray[np.uint8], height: int, width: int, window: Box | None = None) -> NDArray[np.uint8]:
    """Resize an image bilinearly without antialiasing, bit for bit like OpenCV's 8-bit `INTER_LINEAR` (SPEC section 1).

    Takes (H, W, C) uint8, gives (height, width, C) uint8. With `window` only this part of the result is computed; its
    values equal those of resizing everything and cropping.
    """
    y1, x1, y2, x2 = window or (0, 0, height, width)
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image[y1:y2, x1:x2])
    top, bottom, row_weights = _taps(image.shape[0], height, y1, y2)
    left, right, column_weights = _taps(image.shape[1], width, x1, x2)
    first, last = int(top.min()), int(bottom.max()) + 1
    rows = _blend_columns(image[first:last], left, right, column_weights)
    return _blend_rows(rows, top - first, bottom - first, row_weights)


def _taps(n_in: int, n_out: int, start: int, stop: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32]]:
    """Both source indices and the 11-bit weight of the second for the output positions start..stop of one axis."""
    position = ((np.arange(start, stop) + 0.5) * (n_in / n_out) - 0.5).astype(np.float32)
    lower = np.floor(position)
    weight = np.rint((position - lower) * np.float32(2048)).astype(np.int32)
    index = lower.astype(np.intp)
    return index.clip(0, n_in - 1), (index + 1).clip(0, n_in - 1), weight


def _blend_columns(
    image: NDArray[np.uint8], left: NDArray[np.intp], right: NDArray[np.intp], weight: NDArray[np.int32]
) -> NDArray[np.int32]:
    second = weight[:, None]
    blended = image.take(left, axis=1).astype(np.int32)
    blended *= 2048 - second
    blended += image.take(right, axis=1) * second
    blended >>= 4
    return blended


def _blend_rows(
    rows: NDArray[np.int32], top: NDArray[np.intp], bottom: NDArray[np.intp], weight: NDArray[np.int32]
) -> NDArray[np.uint8]:
    second = weight[:, None, None]
    upper = rows.take(top, axis=0)
    upper *= 2048 - second
    upper >>= 16
    lower = rows.take(bottom, axis=0)
    lower *= second
    lower >>= 16
    upper += lower
    upper += 2
    upper >>= 2
    return upper.astype(np.uint8)


def resize_nearest(label: NDArray[np.uint8], height: int, width: int, window: Box | None = None) -> NDArray[np.uint8]:
    """Resize a label map by nearest neighbour: position i reads floor(i x n_in / n_out) (SPEC section 1).

    Takes and gives (H, W) uint8; `height`, `width` and `window` as for `resize_bilinear`.
    """
    y1, x1, y2, x2 = window or (0, 0, height, width)
    rows = np.arange(y1, y2) * label.shape[0] // height
    columns = np.arange(x1, x2) * label.shape[1] // width
    return label[rows[:, None], columns]
