"""A tiny prepared dataset of coloured squares, drawn in code."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.shards import ImageSource

CLASSES = ("red", "green", "blue")
_COLOURS = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 210]], dtype=np.uint8)


def draw(sample: ImageSource) -> tuple[bytes, np.ndarray]:
    """A background of one colour, a square of another, noise on both, a border that is ignored."""
    rng = np.random.default_rng(sample.payload)
    height, width = (int(side) for side in rng.integers(60, 90, 2))
    below, above = rng.permutation(3)[:2]
    label = np.full((height, width), below, np.uint8)
    y, x = rng.integers(5, 25, 2)
    label[y : y + 30, x : x + 30] = above
    image = np.clip(_COLOURS[label].astype(int) + rng.integers(-30, 30, (height, width, 3)), 0, 255).astype(np.uint8)
    label[:2] = 255
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue(), label


def write_tiny_dataset(folder: Path, *, train: int = 10, val: int = 3) -> Path:
    """Write the dataset; the same every time."""
    parts = {
        "train": [ImageSource(f"t{i}", i) for i in range(train)],
        "val": [ImageSource(f"v{i}", 1000 + i) for i in range(val)],
    }
    write_prepared(folder, name="squares", classes=CLASSES, parts=parts, load=draw)
    return folder
