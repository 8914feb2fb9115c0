"""Writing the drawn world as a prepared dataset."""

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.prepared_writer import WriteOptions, write_prepared
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.shapes.scenes import draw_scene

_SIDES = range(48, 257)


def draw_sample(sample: ImageSource, *, size: int, classes: int) -> tuple[bytes, NDArray[np.uint8]]:
    """Draw the scene whose seed is the sample's payload: JPEG (quality 95, full colour resolution) and label.

    The label (size, size) uint8 has the first `classes` classes; pixels of the others are ignored (255).
    """
    scene = draw_scene(sample.payload, size=size)
    stream = BytesIO()
    Image.fromarray(scene.image).save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue(), np.where(scene.label < classes, scene.label, np.uint8(IGNORED))


def prepare_shapes(
    output: Path,
    *,
    train: int = 2000,
    val: int = 300,
    size: int = 128,
    seed: int = 0,
    stuff: bool = True,
    **writing: Unpack[WriteOptions],
) -> None:
    """Draw the dataset `shapes`: scenes of two to six things on one to three regions of stuff; or `shapes-things`.

    Args:
        train: Scenes to train on, at least 1.
        val: Scenes to evaluate on, at least 1.
        size: Side of the scenes in pixels, 48 to 256.
        seed: Decides every scene, at least 0; train and val never share one.
        stuff: Label the stuff too; without it (`shapes-things`) its pixels are ignored, as VOC ignores its background.

    Other arguments are those of `write_prepared`, with 2 workers by default. Raises UserError where a count, size or
    seed is out of range, or `output` is taken.
    """
    for name, count, least in (("train", train, 1), ("val", val, 1), ("seed", seed, 0)):
        if count < least:
            raise UserError(f"{name} is {count}; it must be at least {least}.")
    if size not in _SIDES:
        raise UserError(f"size is {size}; scenes can be drawn from {_SIDES[0]} to {_SIDES[-1]} pixels a side.")
    writing.setdefault("workers", 2)
    split = get_split("shapes" if stuff else "shapes-things")
    write_prepared(
        output,
        name=split.dataset,
        classes=split.class_names,
        colours=split.colours,
        parts={
            "train": [ImageSource(f"train-{i:06d}", (seed, 0, i)) for i in range(train)],
            "val": [ImageSource(f"val-{i:06d}", (seed, 1, i)) for i in range(val)],
        },
        load=partial(draw_sample, size=size, classes=len(split.classes)),
        options={"seed": seed, "size": size, "train": train, "val": val},
        **writing,
    )
