"""The gallery of a predict run: every image under its prediction, found by class and by name."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from cascade_clip.data.image_file import opened_image
from cascade_clip.data.images import open_image
from cascade_clip.drawing.overlay import coloured_image, fitted_size
from cascade_clip.drawing.palette import Colour
from cascade_clip.files import delete, replace_files, waiting_place
from cascade_clip.labels import LabelMap
from cascade_clip.report.page import PICTURE_SIDE, page_jpeg, render_page, unwritable, write_page

PICTURES = "index_files"
"""Folder of the gallery's own small pictures, beside the page."""
PICTURE_PATTERN = "[0-9][0-9][0-9][0-9][0-9]-*.jpg"
SMALLEST = 480
"""Smaller images are enlarged to this longer side, so that the lines between classes stay thin."""


def write_gallery(
    folder: Path, predictions: Sequence[Mapping[str, Any]], files: Mapping[str, Path] | None = None
) -> Path:
    """Write the page of a folder of predictions, and its pictures into `index_files` beside it; gives
    folder/index.html.

    The pictures are loaded as they come into sight, so that the page of thousands of images stays quick. The folder can
    be moved as a whole and needs no network.

    `predictions` are the records of images as `predict --json` gives them, also of those that were left out; those
    without a label map (videos) are skipped. Every image and label map is read again, from `files` where an image is
    called otherwise, for example by its address. Raises UserError: the folder cannot be written to, or an image can no
    longer be read; then no page is written.
    """
    done = [record for record in predictions if "labels" in record.get("files", {})]
    place = folder / PICTURES
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = waiting_place(place)
        try:
            drawn.mkdir()
            cards = [_card(folder, drawn, number, record, files or {}) for number, record in enumerate(done, start=1)]
            replace_files(place, drawn, PICTURE_PATTERN)
        finally:
            delete(drawn)
    except OSError as error:
        raise unwritable(folder, error) from error
    html = render_page(
        "gallery.html.jinja",
        pictures_beside=True,
        title="Predictions",
        cards=cards,
        failures=[record for record in predictions if "error" in record],
        classes=sorted(
            Counter(entry["class"] for record in done for entry in record["classes"]).items(),
            key=lambda item: (-item[1], item[0]),
        ),
    )
    return write_page(folder / "index.html", html)


def _card(
    folder: Path, pictures: Path, number: int, record: Mapping[str, Any], files: Mapping[str, Path]
) -> dict[str, Any]:
    """Draw the two pictures of one image and say what its card shows."""
    image = open_image(files.get(record["image"], Path(record["image"])))
    size = fitted_size(image, SMALLEST, PICTURE_SIDE)
    layers = {
        "Image": Image.fromarray(image),
        "Prediction": coloured_image(image, _label_map(Path(record["files"]["labels"])), _colours(record), size),
    }
    sources = []
    for name, picture in layers.items():
        file = f"{number:05d}-{name.lower()}.jpg"
        (pictures / file).write_bytes(page_jpeg(picture))
        sources.append((name, f"{PICTURES}/{file}"))
    return {
        "name": Path(record["image"]).name,
        "path": record["image"],
        "size": size,
        "layers": sources,
        "classes": record["classes"],
        "no_class": record["no_class"]["share"],
        "files": [(name, _reference(Path(path), folder)) for name, path in record["files"].items()],
    }


def _label_map(file: Path) -> LabelMap:
    """The label map as it was written: 8 bit, or 16 bit above 255 classes."""
    with opened_image(file, str(file)) as picture:
        values = np.asarray(picture.pixels)
    return values if values.dtype == np.uint8 else values.astype(np.uint16)


def _colours(record: Mapping[str, Any]) -> list[Colour]:
    """Colours by index, as far as the image holds classes; indices without one are not shown."""
    colours: list[Colour] = [(0, 0, 0)] * (max((entry["index"] for entry in record["classes"]), default=-1) + 1)
    for entry in record["classes"]:
        red, green, blue = bytes.fromhex(entry["colour"].removeprefix("#"))
        colours[entry["index"]] = (red, green, blue)
    return colours


def _reference(file: Path, folder: Path) -> str:
    """A link from the page to a file: relative to the page's folder, with special characters escaped."""
    return quote(os.fsencode(Path(os.path.relpath(file, folder)).as_posix()))
