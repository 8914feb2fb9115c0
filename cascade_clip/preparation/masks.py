"""Turning mask files into labels: class index 0..K-1, 255 = ignored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.class_list_file import Colour
from cascade_clip.data.images import decode_label, image_size, open_image
from cascade_clip.data.mask_values import MaskValues
from cascade_clip.errors import UserError
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.shards import Sample
from cascade_clip.preparation.source_files import EntryPair
from cascade_clip.preparation.source_tree import Entry

ReadMask = Callable[[Entry], NDArray[np.uint8]]
"""Reads a mask file as label (H, W) uint8; raises UserError, naming the file."""


@dataclass(frozen=True)
class PairLoader:
    """Loads a `Sample` whose payload is a `EntryPair`: checks the image, reads the mask, compares their sizes."""

    read_mask: ReadMask

    def __call__(self, sample: Sample) -> tuple[bytes, NDArray[np.uint8]]:
        """Load the image file's bytes and the label (H, W) uint8; see `cascade_clip.preparation.shards.Loader`."""
        pair: EntryPair = sample.payload
        content = pair.image.read()
        size = image_size(content, str(pair.image))
        label = self.read_mask(pair.mask)
        if label.shape != size:
            raise UserError(
                f"{pair.mask} has {label.shape[1]} x {label.shape[0]} pixels, "
                f"its image {pair.image} has {size[1]} x {size[0]}; they must be equal."
            )
        return content, label


class IndexMasks(MaskValues):
    """Files of single-channel masks that hold class indices."""

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Read one mask file; see `ReadMask`."""
        return self.to_labels(decode_label(entry.read(), str(entry)), str(entry))


@dataclass(frozen=True)
class ColourMasks:
    """RGB masks in which each class has its colour."""

    colours: tuple[Colour, ...]
    """In label order."""
    ignore: frozenset[Colour] = frozenset()
    """Colours that become 255."""

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Read one mask file; see `ReadMask`."""
        red, green, blue = np.moveaxis(open_image(entry.read(), str(entry)).astype(np.int32), -1, 0)
        packed = red << 16 | green << 8 | blue
        codes, labels = self._codes
        place = np.searchsorted(codes, packed).clip(0, len(codes) - 1)
        unknown = codes[place] != packed
        if unknown.any():
            shown = [f"#{code:06x}" for code in np.unique(packed[unknown])[:5]]
            raise UserError(
                f"{entry} has {np.count_nonzero(unknown)} pixels of no class, for example {', '.join(shown)}. "
                "Add the colour to the colour table, or ignore it with --ignore '#rrggbb'."
            )
        found: NDArray[np.uint8] = labels[place]
        return found

    @cached_property
    def _codes(self) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """All known colours as 24-bit numbers, rising, with their labels."""
        table = {colour: label for label, colour in enumerate(self.colours)} | dict.fromkeys(self.ignore, IGNORED)
        entries = sorted((red << 16 | green << 8 | blue, label) for (red, green, blue), label in table.items())
        return np.array([code for code, _ in entries], np.int32), np.array([label for _, label in entries], np.uint8)


def colours_in_order(classes: Sequence[str], colours: Mapping[str, Colour]) -> tuple[Colour, ...]:
    """Sort a colour table by class.

    Raises:
        UserError: A class has no colour, or a colour has no class.
    """
    without = [name for name in classes if name not in colours]
    unknown = [name for name in colours if name not in classes]
    if without or unknown:
        first = f"The colour table has no colour for {', '.join(without)}. " if without else ""
        second = f"The colour table names {', '.join(unknown)}, which is no class." if unknown else ""
        raise UserError((first + second).strip())
    return tuple(colours[name] for name in classes)
