"""Labels of PASCAL Context in their three encodings: ids of the 459 classes as MATLAB files or COCO RLE, and PNG masks.

MATLAB and RLE carry the ids of the full annotation, so that nothing can be mistaken in them. Converted PNG masks number
the 59 classes, and two orders and two starts circulate (`Reading`).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.images import decode_label, image_size
from cascade_clip.errors import UserError
from cascade_clip.labels import IGNORED
from cascade_clip.preparation.context_classes import CONTEXT_IDS, LAST_ID, Reading
from cascade_clip.preparation.shards import Sample
from cascade_clip.preparation.source_tree import Entry


@dataclass(frozen=True)
class ConvertedMasks:
    """Reads PNG masks of the 59 classes."""

    reading: Reading

    def __call__(self, mask: Entry) -> NDArray[np.uint8]:
        """Read one mask; see `cascade_clip.preparation.masks.ReadMask`.

        Raises:
            UserError: The file is broken, or holds a value that is no class.
        """
        values = decode_label(mask.read(), str(mask))
        first = self.reading.first_index
        known = {IGNORED, *range(first + len(CONTEXT_IDS)), *((0,) if first else ())}
        wrong = [value for value in np.unique(values).tolist() if value not in known]
        if wrong:
            raise UserError(
                f"{mask} holds {', '.join(map(str, wrong[:5]))}, which is no class: these masks number the 59 classes "
                f"from {first} to {first + len(CONTEXT_IDS) - 1}, and 255 is ignored."
            )
        labels: NDArray[np.uint8] = _labels_of_values(self.reading)[values]
        return labels


class MatMasks:
    """Reads the MATLAB files of the full annotation."""

    def __call__(self, mask: Entry) -> NDArray[np.uint8]:
        """Read one mask; see `cascade_clip.preparation.masks.ReadMask`.

        Raises:
            UserError: SciPy is missing, the file is broken, or it holds a number that is no id.
        """
        try:
            from scipy.io import loadmat
        except ImportError as error:
            raise UserError(
                "The .mat labels of PASCAL Context need SciPy: pip install 'cascade-clip[data]'."
            ) from error
        content = mask.read()
        try:
            ids = np.asarray(loadmat(io.BytesIO(content))["LabelMap"])
            if ids.ndim != 2 or ids.dtype.kind not in "uif":
                raise ValueError(f"LabelMap is {ids.dtype} of {ids.ndim} axes")
        except (OSError, ValueError, KeyError, IndexError, TypeError, NotImplementedError) as error:
            raise UserError(f"{mask} cannot be read as a label map of PASCAL Context ({error}).") from error
        return labels_of_ids(ids, str(mask))


@dataclass(frozen=True)
class RleLabel:
    """What `trainval_merged.json` says of one image; picklable, and its `repr` says all of it."""

    where: str
    """The file and the image, for messages."""
    height: int
    width: int
    segments: tuple[tuple[int, str | tuple[int, ...]], ...]
    """Id and run lengths of each annotation in the file's order: COCO's compressed string, or the plain numbers."""

    def __str__(self) -> str:
        return self.where


@dataclass(frozen=True)
class AnnotatedImage:
    """Payload of a `Sample`: an image with its annotations."""

    image: Entry
    label: RleLabel


def load_annotated_image(sample: Sample) -> tuple[bytes, NDArray[np.uint8]]:
    """Load the image file's bytes and paint its label (H, W) uint8; see `cascade_clip.preparation.shards.Loader`."""
    pair: AnnotatedImage = sample.payload
    content, label = pair.image.read(), pair.label
    height, width = image_size(content, str(pair.image))
    if (height, width) != (label.height, label.width):
        raise UserError(
            f"{label} has {label.width} x {label.height} pixels, {pair.image} has {width} x {height}; "
            "they must be equal."
        )
    return content, decode_rle_label(label)


def decode_rle_label(label: RleLabel) -> NDArray[np.uint8]:
    """Paint the annotations of one image in their order, so that the last one wins where two overlap (as CAT-Seg does).

    Args:
        label: The annotations.

    Returns:
        (H, W) uint8: class index, 255 = ignored.

    Raises:
        UserError: pycocotools is missing, or run lengths are damaged.
    """
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise UserError(
            "The COCO RLE of trainval_merged.json needs pycocotools: pip install 'cascade-clip[data]'."
        ) from error
    ids = np.zeros((label.height, label.width), np.uint16)
    for number, (category, counts) in enumerate(label.segments):
        try:
            encoded: Any = {"size": [label.height, label.width], "counts": counts}
            if not isinstance(counts, str):
                encoded = coco.frPyObjects(encoded | {"counts": list(counts)}, label.height, label.width)
            elif counts.isascii():
                encoded["counts"] = counts.encode()
            # pycocotools leaves what lies behind the last run as the memory happened to be.
            if _run_total(encoded["counts"]) != ids.size:
                raise ValueError(f"its runs do not make up {label.width} x {label.height} pixels")
            ids[coco.decode(encoded).astype(bool)] = category
        except (ValueError, TypeError, OverflowError) as error:
            raise UserError(
                f"{label}: annotation {number} of category {category} is damaged ({error}). Fetch the file again."
            ) from error
    return labels_of_ids(ids, label.where)


def _run_total(counts: bytes) -> int:
    """Sum of the run lengths in COCO's compressed form.

    A character carries five bits and whether more follow; from the fourth run on the difference to the run before the
    last is stored.
    """
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not digits.size or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise ValueError("it is no run-length code")
    starts = np.flatnonzero(np.concatenate([[True], (digits[:-1] & 32) == 0]))
    lengths = np.diff(np.append(starts, digits.size))
    if lengths.max() > 7:
        raise ValueError("a run is too long")
    shifts = 5 * (np.arange(digits.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((digits & 31) << shifts, starts)
    ends = starts + lengths - 1
    runs -= np.where(digits[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    if runs.min() < 0:
        raise ValueError("a run is negative")
    return int(runs.sum())


def labels_of_ids(ids: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Turn ids of the full annotation into labels.

    Args:
        ids: (H, W), whole numbers 0..459.
        where: The file, for the message.

    Returns:
        (H, W) uint8: class index, 255 = ignored (no class, or none of the 59).

    Raises:
        UserError: A number is no id.
    """
    if ids.size and not (ids.min() >= 0 and ids.max() <= LAST_ID and np.array_equal(ids, ids.astype(np.int64))):
        raise UserError(
            f"{where} holds numbers from {ids.min()} to {ids.max()}; the full annotation of PASCAL Context has whole "
            f"numbers of 0 to {LAST_ID}."
        )
    labels: NDArray[np.uint8] = _labels_of_full_ids()[ids.astype(np.int64)]
    return labels


@cache
def _labels_of_full_ids() -> NDArray[np.uint8]:
    table = np.full(LAST_ID + 1, IGNORED, np.uint8)
    for label, name in enumerate(get_split("context").class_names):
        table[CONTEXT_IDS[name]] = label
    return table


@cache
def _labels_of_values(reading: Reading) -> NDArray[np.uint8]:
    table = np.full(256, IGNORED, np.uint8)
    label_of = {name: label for label, name in enumerate(get_split("context").class_names)}
    for value, name in enumerate(reading.names, reading.first_index):
        table[value] = label_of[name]
    return table
