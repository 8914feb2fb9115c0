"""Writing the drawn world as a prepared dataset."""

from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.progress import Progress
from cascade_clip.shapes.scenes import draw_scene

_SIDES = range(48, 257)


def draw_sample(sample: ImageSource, *, size: int, classes: int) -> tuple[bytes, NDArray[np.uint8]]:
    """Draw the scene of a sample.

    Args:
        sample: Its payload is the scene's seed.
        size: Side in pixels.
        classes: So many classes are labelled, in label order; pixels of the others are ignored (255).

    Returns:
        The image as JPEG (quality 95, full colour resolution) and the label (size, size) uint8.
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
    workers: int = 2,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Draw the dataset `shapes`: scenes of two to six things on one to three regions of stuff; or `shapes-things`.

    Args:
        output: Folder of the prepared dataset.
        train: Scenes to train on, at least 1.
        val: Scenes to evaluate on, at least 1.
        size: Side of the scenes in pixels, 48 to 256.
        seed: Decides every scene, at least 0; train and val never share one.
        stuff: Label the stuff too; without it (`shapes-things`) its pixels are ignored, as VOC ignores its background.
        workers: Processes that draw; the bytes do not depend on it.
        overwrite: Replace what is in `output`.
        progress: Called with (scenes done, scenes in all, what was finished last).

    Raises:
        UserError: A count, size or seed is out of range, or `output` is taken.
    """
    for name, count, least in (("train", train, 1), ("val", val, 1), ("seed", seed, 0)):
        if count < least:
            raise UserError(f"{name} is {count}; it must be at least {least}.")
    if size not in _SIDES:
        raise UserError(f"size is {size}; scenes can be drawn from {_SIDES[0]} to {_SIDES[-1]} pixels a side.")
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
        workers=workers,
        overwrite=overwrite,
        progress=progress,
    )
