"""A folder of a user's own images and masks, as `prepare-data folder` takes it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from PIL import Image


def write_own_images(
    folder: Path, names: Iterable[str], draw: Callable[[int], tuple[Any, Any]], classes: str = "", ending: str = "png"
) -> Path:
    """Write images, masks and, one a line, `classes`; `draw` gives the pixels of the image and mask of a number."""
    for number, name in enumerate(names):
        image, mask = draw(number)
        for file, pixels in (("images", f"{name}.{ending}"), image), (("masks", f"{name}.png"), mask):
            place = folder.joinpath(*file)
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place)
    if classes:
        (folder / "classes.txt").write_text(classes)
    return folder
