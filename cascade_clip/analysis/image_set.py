"""Images to look at: those of a prepared dataset, or files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.images import open_image
from cascade_clip.data.resize import resize_bilinear, test_size
from cascade_clip.evaluation.evaluate import chosen_images

if TYPE_CHECKING:
    from cascade_clip.data.dataset_info import Part
    from cascade_clip.data.prepared import PreparedDataset


@dataclass(frozen=True)
class ImageSet:
    """Images by number.

    Attributes:
        name: What people call them: the dataset and its part, or the folder.
        count: How many there are.
        read: Number 0 .. count - 1 -> (H, W, 3) uint8 RGB; an image that cannot be read is a `UserError`.
    """

    name: str
    count: int
    read: Callable[[int], NDArray[np.uint8]]


def dataset_images(dataset: PreparedDataset, part: Part = "val", *, limit: int = 0) -> ImageSet:
    """The images of one part of a prepared dataset; with a limit so many of them, spread evenly."""
    chosen = chosen_images(dataset.count(part), limit)

    def read(number: int) -> NDArray[np.uint8]:
        record = dataset.read(part, chosen[number])
        return open_image(record.image_bytes, f'Image "{record.id}" of the data set')

    return ImageSet(f"{dataset.name} {part}", len(chosen), read)


def file_images(files: Sequence[Path], name: str, *, limit: int = 0) -> ImageSet:
    """Image files; with a limit so many of them, spread evenly."""
    chosen = chosen_images(len(files), limit)
    return ImageSet(name, len(chosen), lambda number: open_image(files[chosen[number]]))


def central_square(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Resize the short side as in inference (SPEC section 1, test resize) and keep the middle.

    Args:
        image: (H, W, 3) uint8 RGB of any size.
        side: Side of the square in pixels.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    height, width = test_size(image.shape[0], image.shape[1], side)
    top, left = (height - side) // 2, (width - side) // 2
    return resize_bilinear(image, height, width, (top, left, top + side, left + side))
