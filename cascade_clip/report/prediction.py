"""The files of one prediction (cascade_clip/README.md, section 4.6), written whole or not at all."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.errors import UserError
from cascade_clip.files import json_text, write_files
from cascade_clip.inference.class_scores import EIGHT_BIT_CLASSES
from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.report.overlay import LegendEntry, render_overlay
from cascade_clip.report.palette import Colour, hex_colour, png_palette


class PredictionFiles(NamedTuple):
    """Where a prediction was written."""

    labels: Path
    overlay: Path
    record: Path
    explanation: Path | None = None


RECORD = ".json"
ENDINGS = (RECORD, ".labels.png", ".overlay.png", ".explain.png", ".overlay.mp4")
"""What follows the stem in the names of the files of an image or a video."""


_OWN_KEYS = {"names", "models"}
"""One of these keys stands in each of our records of an image: of a prediction, or of patch similarities."""


def predicted_source(folder: Path, stem: str) -> Path | None:
    """The image or video whose prediction has this stem in a folder; None: no prediction, or one that names none."""
    try:
        record = json.loads((folder / f"{stem}{RECORD}").read_bytes())
        source = record.get("image") or record.get("video") if record.keys() & _OWN_KEYS else None
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None
    return Path(os.path.realpath(source)) if isinstance(source, str) else None


def is_taken(
    folder: Path, stem: str, source: Path, inputs: Collection[Path] = (), endings: Sequence[str] = ENDINGS
) -> bool:
    """Whether files of this stem in a folder belong to something else than the prediction of `source`.

    `inputs` are files that are read, which no prediction may replace, with links resolved.
    """
    files = [folder / f"{stem}{ending}" for ending in endings]
    there = [file for file in files if os.path.lexists(file)]
    if any(file.resolve() in inputs for file in there):
        return True
    return bool(there) and predicted_source(folder, stem) != Path(os.path.realpath(source))


def write_prediction(
    segmentation: Segmentation,
    image: NDArray[np.uint8],
    folder: Path,
    stem: str,
    colours: Sequence[Colour],
    *,
    source: str | None = None,
    explanation: bytes | None = None,
    grey: bool = False,
) -> PredictionFiles:
    """Write STEM.labels.png, STEM.overlay.png, STEM.json and, where there is one, STEM.explain.png.

    Args:
        segmentation: Labels and scores of the image.
        image: (H, W, 3) uint8 RGB, the image itself.
        folder: Folder to write to; made where it does not exist.
        stem: Name of the files without their endings.
        colours: A colour for each of the K classes.
        source: Where the image came from, kept in the JSON.
        explanation: A PNG of what each stage saw.
        grey: Whether the label map is a grey PNG, whose indices every reader gives; a palette's OpenCV turns into
            colours or luminance.

    Returns:
        The files.

    Raises:
        UserError: The folder cannot be written to, or the disk is full; then none of them is left half-written.
    """
    files = PredictionFiles(*(folder / f"{stem}{ending}" for ending in (".labels.png", ".overlay.png", ".json")))
    record = prediction_record(segmentation, colours, source)
    legend = [LegendEntry(share.name, share.share, colours[share.index]) for share in segmentation.summary()]
    if unassigned := record["no_class"]["share"]:
        legend.append(LegendEntry("no class", unassigned, None))
    # The record is moved into place first: without it the others would count as somebody else's.
    contents = {
        files.record: json_text(record).encode(),
        files.labels: labels_png(segmentation, None if grey else colours),
        files.overlay: _png(render_overlay(image, segmentation.labels, colours, legend)),
    }
    if explanation is not None:
        files = files._replace(explanation=folder / f"{stem}.explain.png")
        contents[folder / f"{stem}.explain.png"] = explanation
    try:
        write_files(contents)
        if explanation is None:  # one of an earlier prediction shows other scores
            (folder / f"{stem}.explain.png").unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f'The prediction cannot be written to "{folder}": {reason}. Choose another --output.'
        ) from error
    return files


def labels_png(segmentation: Segmentation, colours: Sequence[Colour] | None) -> bytes:
    """Encode labels: a PNG with the classes' colours as its palette; without them or above 255 classes a grey one."""
    picture = Image.fromarray(segmentation.labels)
    if colours is not None and len(segmentation.classes) <= EIGHT_BIT_CLASSES:
        picture.putpalette(png_palette(colours))
    return _png(picture)


def prediction_record(
    segmentation: Segmentation, colours: Sequence[Colour], source: str | None = None
) -> dict[str, Any]:
    """What the JSON says: size, present classes from the largest on, pixels without class, all names."""
    summary = segmentation.summary()
    height, width = segmentation.labels.shape
    unassigned = segmentation.labels.size - sum(share.pixels for share in summary)
    return {
        "image": source,
        "width": width,
        "height": height,
        "classes": [
            {
                "class": share.name,
                "index": share.index,
                "colour": hex_colour(colours[share.index]),
                "pixels": share.pixels,
                "share": share.share,
                "mean_score": share.mean_score,
            }
            for share in summary
        ],
        "no_class": {
            "index": segmentation.no_class,
            "pixels": unassigned,
            "share": unassigned / segmentation.labels.size,
        },
        "names": list(segmentation.classes),
    }


def _png(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    return encoded.getvalue()
