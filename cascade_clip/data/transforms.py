"""Training augmentation (SPEC section 1): ratio resize, crop, flip, photometric distortion, normalisation, padding."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade_clip.config.schema import DataConfig
from cascade_clip.data.photometric import photometric_distortion
from cascade_clip.data.resize import Box, resize_bilinear, resize_nearest, train_size
from cascade_clip.labels import IGNORED

_CROP_CHECKS = 10


def normalise(
    image: NDArray[np.uint8], mean: tuple[float, float, float], std: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Normalise each channel of (H, W, 3) uint8 RGB, with mean and deviation on 0..255; gives (3, H, W) float32."""
    levels = np.arange(256, dtype=np.float32)
    out = np.empty((3, *image.shape[:2]), np.float32)
    for channel in range(3):
        table = (levels - np.float32(mean[channel])) / np.float32(std[channel])
        out[channel] = table[image[..., channel]]
    return out


class Crop(NamedTuple):
    """Result of the training transform."""

    image: NDArray[np.float32]
    """(3, crop, crop), normalised, padded with 0 (the mean colour) at the bottom and right."""
    label: NDArray[np.uint8]
    """(crop, crop), padded with 255 (SPEC section 1)."""
    extent: tuple[int, int]
    """Height and width of what is no padding: in the label alone, padding looks like ignored pixels."""


class TrainTransform:
    """Turns an image and its label into one training sample of a fixed size."""

    def __init__(self, config: DataConfig) -> None:
        self.config = config

    def __call__(self, image: NDArray[np.uint8], label: NDArray[np.uint8], rng: np.random.Generator) -> Crop:
        """Resize an image (H, W, 3) uint8 RGB and its label (H, W) uint8 by a drawn ratio, crop, flip, distort,
        normalise, pad."""
        config = self.config
        height, width = label.shape
        size = train_size(height, width, config.long_side, config.short_side, rng.uniform(*config.ratio))
        window = self._choose_window(label, size, rng)
        # Resizing the window alone gives the values of resizing all and cropping, at a fraction of the work.
        label = resize_nearest(label, *size, window)
        image = resize_bilinear(image, *size, window)
        if rng.random() < config.flip:
            image, label = image[:, ::-1], label[:, ::-1]
        if config.photometric:
            image = photometric_distortion(image, rng)
        return self._pad(normalise(image, config.mean, config.std), label)

    def _choose_window(self, label: NDArray[np.uint8], size: tuple[int, int], rng: np.random.Generator) -> Box:
        """Draw a window; redraw at most ten times while one class covers too much, the last draw is not checked."""
        window = self._draw_window(size, rng)
        if self.config.largest_class >= 1:
            return window
        for _ in range(_CROP_CHECKS):
            if is_varied(resize_nearest(label, *size, window), self.config.largest_class):
                break
            window = self._draw_window(size, rng)
        return window

    def _draw_window(self, size: tuple[int, int], rng: np.random.Generator) -> Box:
        crop = self.config.crop
        top, left = (int(rng.integers(max(side - crop, 0) + 1)) for side in size)
        return top, left, min(top + crop, size[0]), min(left + crop, size[1])

    def _pad(self, image: NDArray[np.float32], label: NDArray[np.uint8]) -> Crop:
        crop = self.config.crop
        height, width = label.shape
        padded = np.zeros((3, crop, crop), np.float32)
        padded[:, :height, :width] = image
        padded_label = np.full((crop, crop), IGNORED, np.uint8)
        padded_label[:height, :width] = label
        return Crop(padded, padded_label, (height, width))


def is_varied(label: NDArray[np.uint8], largest_class: float) -> bool:
    """Whether the largest class of a crop (H, W) uint8 covers less than a share, below 1, of the labelled pixels; thus
    not where it is the only one."""
    counts = np.bincount(label.ravel(), minlength=256)[:IGNORED]
    return bool(counts.max() < largest_class * counts.sum())
