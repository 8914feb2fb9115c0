"""Turning mask files into labels: class index 0..K-1, 255 = ignored."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.class_list_file import Colour
from cascade_clip.data.images import check_image, decode_label, mask_colours, orientation_of
from cascade_clip.data.mask_orientation import fit_label
from cascade_clip.data.mask_values import MaskValues, UnknownValuesError
from cascade_clip.errors import UserError
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.remarks import remark_on_turned_mask, remarks_on_image, remarks_on_palette
from cascade_clip.preparation.shards import ImageSource, Loaded
from cascade_clip.preparation.source_tree import Entry

ReadMask = Callable[[Entry], NDArray[np.uint8]]
"""Reads a mask file as label (H, W) uint8; raises UserError, naming the file."""

MATLAB = "scipy.io.matlab"
"""Module that reads MATLAB files, see `import_extra`."""

# What SciPy raises on broken files, beside its own MatReadError.
_MAT_ERRORS = (EOFError, LookupError, NotImplementedError, OSError, TypeError, ValueError, struct.error, zlib.error)


@dataclass(frozen=True)
class ImageWithMask:
    """An image file with its mask: an `Entry`, or anything else that `read_mask` takes and `str` can name."""

    image: Entry
    mask: Any


@dataclass(frozen=True)
class MaskLoader:
    """Loads an `ImageSource` whose payload is an `ImageWithMask`: checks the image, reads the mask, compares sizes."""

    read_mask: Callable[[Any], NDArray[np.uint8]]

    def __call__(self, source: ImageSource) -> Loaded:
        """Load the image file's bytes and the label; see `cascade_clip.preparation.shards.Loader`."""
        pair: ImageWithMask = source.payload
        content = pair.image.read()
        image_name, mask_name = str(pair.image), str(pair.mask)
        image = check_image(content, image_name)
        label = self.read_mask(pair.mask)
        label, assumed = fit_label(label, image, lambda: _orientation(pair.mask), mask_name, f"its image {image_name}")
        remarks = [*remarks_on_image(image, image_name), *([remark_on_turned_mask(mask_name)] if assumed else [])]
        # The palettes of a benchmark's masks are known.
        if type(self.read_mask) is IndexMasks:
            remarks += remarks_on_palette(pair.mask.read(), self.read_mask.stored_values(label), mask_name)
        return Loaded(content, label, remarks)


def _orientation(mask: Any) -> int:
    return orientation_of(mask.read()) if isinstance(mask, Entry) else 1


class IndexMasks(MaskValues):
    """Reads single-channel masks that hold class indices; a `ReadMask`."""

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Read one mask file."""
        return self.to_labels(decode_label(entry.read(), str(entry)), str(entry))


@dataclass(frozen=True)
class ColourMasks:
    """Reads RGB masks in which each class has its colour; a `ReadMask`."""

    colours: tuple[Colour, ...]
    """In label order."""
    ignore: frozenset[Colour] = frozenset()
    """Colours that become 255."""

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Read one mask file."""
        red, green, blue = np.moveaxis(mask_colours(entry.read(), str(entry)).astype(np.int32), -1, 0)
        packed = red << 16 | green << 8 | blue
        codes, labels = self._codes
        place = np.searchsorted(codes, packed).clip(0, len(codes) - 1)
        unknown = codes[place] != packed
        if unknown.any():
            found_colours = [f"#{code:06x}" for code in np.unique(packed[unknown])]
            way_out = "add it to the colour table, or ignore it with --ignore '#rrggbb'."
            raise UnknownValuesError.of(str(entry), "colour", found_colours, way_out)
        found: NDArray[np.uint8] = labels[place]
        return found

    @cached_property
    def _codes(self) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """All known colours as 24-bit numbers, rising, with their labels."""
        table = {colour: label for label, colour in enumerate(self.colours)} | dict.fromkeys(self.ignore, IGNORED)
        entries = sorted((red << 16 | green << 8 | blue, label) for (red, green, blue), label in table.items())
        return np.array([code for code, _ in entries], np.int32), np.array([label for _, label in entries], np.uint8)


def colours_in_order(classes: Sequence[str], colours: Mapping[str, Colour]) -> tuple[Colour, ...]:
    """Sort a colour table by class; raises UserError where a class has no colour, or a colour no class."""
    without = [name for name in classes if name not in colours]
    unknown = [name for name in colours if name not in classes]
    if without or unknown:
        first = f"The colour table has no colour for {', '.join(without)}. " if without else ""
        second = f"The colour table names {', '.join(unknown)}, which is no class." if unknown else ""
        raise UserError((first + second).strip())
    return tuple(colours[name] for name in classes)


def import_extra(module: str, files: str, extra: str = "data") -> Any:
    """Import a module that an extra brings; raises UserError where it is not installed.

    Asked before a preparation begins, it spares one message an image.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(f"{files} need {package}: pip install 'cascade-clip[{extra}]'.") from error


def read_mat(entry: Entry, dataset: str, take: Callable[[dict[str, Any]], object], largest: int) -> NDArray[np.int64]:
    """Read a label map (H, W) int64, 0 to `largest`, that `take` gives of a MATLAB file's variables.

    Raises UserError where SciPy is missing, or the file cannot be read, is broken, or holds something else; messages
    say whose file it is by `dataset`.
    """
    matlab = import_extra(MATLAB, f"The .mat files of {dataset}")
    content = entry.read()
    try:
        stored = np.asarray(take(matlab.loadmat(io.BytesIO(content))))
        if stored.ndim != 2 or stored.size == 0 or stored.dtype.kind not in "uif":
            raise ValueError(f"it holds {stored.shape} {stored.dtype}")
    except (*_MAT_ERRORS, matlab.MatReadError) as error:
        raise UserError(f"{entry} cannot be read as a label map of {dataset} ({error}).") from error
    with np.errstate(invalid="ignore"):
        labels = stored.astype(np.int64)
    if stored.min() < 0 or stored.max() > largest or not np.array_equal(labels, stored):
        raise UserError(
            f"{entry} holds numbers from {stored.min()} to {stored.max()}; "
            f"label maps of {dataset} have whole numbers of 0 to {largest}."
        )
    return labels
