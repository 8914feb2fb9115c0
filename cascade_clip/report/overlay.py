"""A picture of a segmentation for people: the image under its classes' colours, with a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cascade_clip.report.legend import LegendEntry, legend_below, legend_beside
from cascade_clip.report.palette import Colour

SMALLEST, LARGEST = 800, 4096
"""The longer side of the picture is brought between these: a legend stays legible, a file stays sensible."""
WIDE = 2.0
"""Pictures at least this many times as wide as high have their legend below."""
DARKEST, BRIGHTEST = 70, 225
"""Range of the photo under the colours: on black or on white, different colours would look alike."""
STRENGTH = 0.6
"""Weight of the class colour against the image."""
Labels = NDArray[np.uint8] | NDArray[np.uint16]


def render_overlay(
    image: NDArray[np.uint8],
    labels: Labels,
    colours: Sequence[Colour],
    legend: Sequence[LegendEntry],
) -> Image.Image:
    """Lay the classes' colours over an image and put a legend beside it, or below where the image is wide.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) class index at every pixel; an index without a colour (no class) leaves the image grey.
        colours: K colours.
        legend: The classes to list, the largest first; what does not fit is counted.

    Returns:
        An RGB picture. Its image part keeps the aspect of `image`, with its longer side between 800 and 4096 pixels.
    """
    size = _picture_size(image.shape[1], image.shape[0])
    picture = coloured_image(image, labels, colours, size)
    font_size = max(18, round(max(size) / 52))
    if size[0] >= WIDE * size[1]:
        panel = legend_below(legend, size[0], font_size)
        canvas = Image.new("RGB", (size[0], size[1] + panel.height))
        canvas.paste(panel, (0, size[1]))
    else:
        panel = legend_beside(legend, size[1], font_size)
        canvas = Image.new("RGB", (size[0] + panel.width, size[1]))
        canvas.paste(panel, (size[0], 0))
    canvas.paste(picture, (0, 0))
    return canvas


def _picture_size(width: int, height: int) -> tuple[int, int]:
    longest = max(width, height)
    scale = min(max(longest, SMALLEST), LARGEST) / longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def coloured_image(
    image: NDArray[np.uint8], labels: Labels, colours: Sequence[Colour], size: tuple[int, int]
) -> Image.Image:
    """Lay the classes' colours over an image, with white lines between classes and without a legend.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) class index at every pixel; an index without a colour leaves the image grey.
        colours: K colours.
        size: Width and height of the picture in pixels.

    Returns:
        An RGB picture of that size.
    """
    shown = _nearest(labels, size)
    photo = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=3)
    unlabelled = shown >= len(colours)
    table = np.zeros((len(colours) + 1, 3), np.uint8)
    table[:-1] = np.asarray(colours, np.uint8).reshape(-1, 3)
    paint = Image.fromarray(table[np.minimum(shown, len(colours))])
    grey = photo.convert("L").convert("RGB")
    # Half of the photo's own colour is taken out, so that hues mean classes.
    muted = Image.blend(photo, grey, 0.5).point(lambda level: DARKEST + level * (BRIGHTEST - DARKEST) / 255)
    tinted = Image.blend(muted, paint, STRENGTH)
    picture = Image.composite(grey, tinted, Image.fromarray(unlabelled))
    picture.paste((255, 255, 255), mask=_borders(shown, thickness=max(size) / 1000))
    return picture


def _nearest(labels: Labels, size: tuple[int, int]) -> NDArray[np.int64]:
    height, width = labels.shape
    rows = (np.arange(size[1]) * 2 + 1) * height // (2 * size[1])
    columns = (np.arange(size[0]) * 2 + 1) * width // (2 * size[0])
    shown: NDArray[np.int64] = labels[rows[:, None], columns].astype(np.int64)
    return shown


def _borders(labels: NDArray[np.int64], thickness: float) -> Image.Image:
    """Mask of the lines between classes, about `thickness` pixels wide and soft at the edges."""
    edges = np.zeros(labels.shape, bool)
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edges[1:] |= labels[1:] != labels[:-1]
    mask = Image.fromarray(edges.astype(np.uint8) * 215)
    if thickness > 1:
        mask = mask.filter(ImageFilter.MaxFilter(2 * round(thickness / 2) + 1)) if thickness >= 2 else mask
        mask = mask.filter(ImageFilter.GaussianBlur(thickness / 4))
    return mask
