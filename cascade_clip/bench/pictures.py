"""Images and labels to measure with: drawn scenes, which have edges and flat regions as photographs do."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.shapes.scenes import draw_scene

_DRAWN_SIDE = 128
_QUALITY = 90


def drawn_image(seed: int, size: tuple[int, int], classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A scene of the drawn world at any size.

    Args:
        seed: Decides the scene.
        size: Height and width.
        classes: K; the scene's classes are numbered anew within them.

    Returns:
        Image (H, W, 3) uint8 and label (H, W) uint8, 0..K-1.
    """
    scene = draw_scene((seed, 0, 0), size=_DRAWN_SIDE)
    wide = size[1], size[0]
    image = Image.fromarray(scene.image).resize(wide, Image.Resampling.BICUBIC)
    label = Image.fromarray(scene.label % min(classes, 255)).resize(wide, Image.Resampling.NEAREST)
    return np.asarray(image), np.asarray(label)


def jpeg_bytes(image: NDArray[np.uint8]) -> bytes:
    """Encode as photographs are."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def drawn_dataset(
    folder: Path, *, size: tuple[int, int], names: tuple[str, ...], train: int, val: int, seed: int
) -> PreparedDataset:
    """Write drawn images of a size as a prepared dataset.

    Args:
        folder: A folder that does not exist yet.
        size: Height and width.
        names: K class names.
        train: Images to train on.
        val: Images to evaluate on.
        seed: Decides the images.
    """
    write_prepared(
        folder,
        name="bench",
        classes=names,
        parts={
            "train": [ImageSource(f"t{i}", seed + i) for i in range(train)],
            "val": [ImageSource(f"v{i}", seed + i) for i in range(val)],
        },
        load=partial(_load, size=size, classes=len(names)),
    )
    return PreparedDataset.open(folder)


def _load(sample: ImageSource, *, size: tuple[int, int], classes: int) -> tuple[bytes, NDArray[np.uint8]]:
    image, label = drawn_image(sample.payload, size, classes)
    return jpeg_bytes(image), label
