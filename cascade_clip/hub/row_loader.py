"""From a row of a foreign dataset to image bytes and label."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.images import decode_label, image_size
from cascade_clip.errors import UserError
from cascade_clip.hub.row_columns import Columns
from cascade_clip.hub.row_source import SourceLostError
from cascade_clip.preparation.masks import IndexMasks


@dataclass(frozen=True)
class RowLoader:
    """Checks the image of a row, reads its mask, and compares their sizes."""

    columns: Columns
    masks: IndexMasks

    def load(self, row: Mapping[str, Any], where: str) -> tuple[bytes, NDArray[np.uint8]]:
        """Load one row.

        Args:
            row: Values by column, images as dictionaries of `bytes` and `path`.
            where: What messages call the row.

        Returns:
            The image file's bytes as they are stored, and the label (H, W) uint8: class index, 255 = ignored.

        Raises:
            UserError: Image or mask is missing or broken, the mask is in colours or holds a value that is no class, or
                their sizes differ.
            SourceLostError: Their files are elsewhere and cannot be read.
        """
        image = _content(row[self.columns.image], f'{where} has no image in its column "{self.columns.image}".')
        mask = _content(row[self.columns.label], f'{where} has no mask in its column "{self.columns.label}".')
        size = image_size(image, f"The image of {where}")
        _refuse_colours(mask, where)
        label = self.masks.to_labels(decode_label(mask, f"The mask of {where}"), f"The mask of {where}")
        if label.shape != size:
            raise UserError(
                f"The mask of {where} has {label.shape[1]} x {label.shape[0]} pixels, its image {size[1]} x {size[0]}; "
                "they must be equal."
            )
        return image, label


def _content(value: Mapping[str, Any] | None, missing: str) -> bytes:
    """The bytes of an image that is stored, or lies in a file or at an address."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise UserError(missing)
    if value["bytes"] is not None:
        return bytes(value["bytes"])
    from datasets.utils.file_utils import xopen

    place = str(value["path"])
    try:
        with xopen(place, "rb") as file:
            return bytes(file.read())
    except Exception as error:  # each kind of address has exceptions of its own
        kind = SourceLostError if "://" in place else UserError
        raise kind(f"{place} cannot be read: {error}.") from error


def _refuse_colours(mask: bytes, where: str) -> None:
    try:
        with Image.open(io.BytesIO(mask)) as opened:
            mode, bands = opened.mode, len(opened.getbands())
    except (OSError, ValueError, SyntaxError):
        return  # decode_label says what is wrong
    if bands > 1:
        raise UserError(
            f"The mask of {where} is a colour image ({mode}); class indices in one channel are expected. Save images "
            "and masks as files and use `cascade-clip prepare-data folder --colours`."
        )
