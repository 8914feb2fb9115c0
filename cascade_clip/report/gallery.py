"""The gallery of a predict run: every image under its prediction, found by class and by name."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.images import open_image
from cascade_clip.report.overlay import coloured_image
from cascade_clip.report.page import PICTURE_SIDE, page_jpeg, render_page, unwritable, write_page
from cascade_clip.report.palette import Colour

PICTURES = "index_files"
"""Folder of the gallery's own small pictures, beside the page."""
PICTURE_PATTERN = "[0-9][0-9][0-9][0-9][0-9]-*.jpg"
SMALLEST = 480
"""Smaller images are enlarged to this longer side, so that the lines between classes stay thin."""
NO_COLOUR: Colour = (0, 0, 0)


def write_gallery(folder: Path, predictions: Sequence[Mapping[str, Any]], *, title: str = "Predictions") -> Path:
    """Write the page of a folder of predictions, and its pictures into `index_files` beside it.

    The pictures lie beside the page and are loaded as they come into sight, so that thousands of images stay quick;
    the folder as a whole can be moved and needs no network.

    Args:
        folder: The folder that the predictions were written to.
        predictions: One record an image as `predict` gives it: `image`, `width`, `height`, `classes` (the largest
            first, each with `class`, `index`, `colour`, `share`, `mean_score`), `no_class` and `files`; or `image` and
            `error` for one that was left out. Records without a label map, as of videos, are passed over. Every image
            and label map is read again.
        title: Heading.

    Returns:
        folder/index.html.

    Raises:
        UserError: The folder cannot be written to, or an image cannot be read any more; then the page is not written.
    """
    done = [record for record in predictions if "labels" in record.get("files", {})]
    partial = folder / f".{PICTURES}.{os.getpid()}.part"
    try:
        partial.mkdir(parents=True)
        try:
            cards = [_card(folder, partial, number, record) for number, record in enumerate(done, start=1)]
            _move_pictures(partial, folder / PICTURES)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    html = render_page(
        "gallery.html.jinja",
        pictures_beside=True,
        title=title,
        cards=cards,
        failures=[record for record in predictions if "error" in record],
        classes=sorted(
            Counter(entry["class"] for record in done for entry in record["classes"]).items(),
            key=lambda item: (-item[1], item[0]),
        ),
    )
    return write_page(folder / "index.html", html)


def _card(folder: Path, pictures: Path, number: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the two pictures of one image and say what its card shows."""
    image = open_image(Path(record["image"]))
    size = _page_size(image.shape[1], image.shape[0])
    layers = {
        "Image": Image.fromarray(image),
        "Prediction": coloured_image(image, _labels(Path(record["files"]["labels"])), _colours(record), size),
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


def _move_pictures(drawn: Path, place: Path) -> None:
    """Bring all pictures to their place; those of an earlier gallery go, whatever else lies there stays."""
    place.mkdir(exist_ok=True)
    for earlier in place.glob(PICTURE_PATTERN):
        earlier.unlink()
    for picture in drawn.iterdir():
        picture.replace(place / picture.name)


def _labels(file: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The label map as it was written: 8 bit, or 16 bit above 255 classes."""
    with Image.open(file) as picture:
        values = np.asarray(picture)
    return values if values.dtype == np.uint8 else values.astype(np.uint16)


def _colours(record: Mapping[str, Any]) -> list[Colour]:
    """Colours by index, as far as the image holds classes; indices without one are not shown."""
    present = {entry["index"]: entry["colour"] for entry in record["classes"]}
    colours = [NO_COLOUR] * (max(present, default=-1) + 1)
    for index, colour in present.items():
        red, green, blue = bytes.fromhex(colour.removeprefix("#"))
        colours[index] = (red, green, blue)
    return colours


def _page_size(width: int, height: int) -> tuple[int, int]:
    longest = max(width, height)
    scale = min(max(longest, SMALLEST), PICTURE_SIDE) / longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def _reference(file: Path, folder: Path) -> str:
    """A file as the page links to it: relative to its folder, with every special character escaped."""
    return quote(os.fsencode(Path(os.path.relpath(file, folder)).as_posix()))
