"""From an index mask to the label of an image: by its values, and turned as the image is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.data.image_file import TURNS
from cascade_clip.data.images import CheckedImage
from cascade_clip.errors import UserError, counted
from cascade_clip.labels import IGNORED


class UnknownValuesError(UserError):
    """A mask holds values, or colours, that are no class.

    Attributes:
        values: All of them.
        shown: What the message says of them.
    """

    def __init__(self, message: str = "", *, values: Sequence[str] = (), shown: str = "") -> None:
        super().__init__(message)
        self.values, self.shown = tuple(values), shown

    @classmethod
    def of(cls, where: str, what: str, values: Sequence[str], explanation: str) -> Self:
        """Name at most five values of a mask, which messages call `where`, and say what to do."""
        more = " ..." if len(values) > 5 else ""
        shown = f"the {what}{'s' if values[1:] else ''} {', '.join(values[:5])}{more}"
        return cls(f"{where} holds {shown}, which is no class: {explanation}", values=values, shown=shown)


@dataclass(frozen=True)
class MaskValues:
    """Values of a single-channel mask that holds class indices."""

    class_count: int
    first_index: int = 0
    """Mask value of the first class."""
    ignore: frozenset[int] = frozenset()
    """Mask values that become 255; 255 always does, unless it is the value of a class."""
    values: tuple[int, ...] | None = None
    """Mask value of each class, as 0 and 255; None: they count up from `first_index`."""

    def to_labels(self, mask: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
        """Turn a mask into labels; see `look_up`."""
        values = self._values
        numbers = f"{values[0]} to {values[-1]}" if self.values is None else ", ".join(map(str, values))
        explanation = (
            f"the values of {counted(self.class_count, 'class')} are {numbers}. Values that mean no class are"
            " given with --ignore, those of the classes with --first-index or --mask-values."
        )
        return look_up(mask, self._table, where, explanation)

    def stored_values(self, label: NDArray[np.uint8]) -> list[int]:
        """The mask values of the classes in a label (H, W) uint8."""
        return [self._values[index] for index in np.unique(label).tolist() if index < self.class_count]

    @cached_property
    def _values(self) -> tuple[int, ...]:
        return self.values or tuple(range(self.first_index, self.first_index + self.class_count))

    @cached_property
    def _table(self) -> NDArray[np.int16]:
        label_of = {value: label for label, value in enumerate(self._values)}
        return value_table(label_of | dict.fromkeys(self.ignore, IGNORED))


def value_table(label_of: Mapping[int, int]) -> NDArray[np.int16]:
    """Make the table for `look_up` from labels by stored value; 255 stays 255 unless it has a label of its own."""
    table = np.full(256, -1, np.int16)
    for value, label in {IGNORED: IGNORED, **label_of}.items():
        table[value] = label
    return table


def look_up(mask: NDArray[np.uint8], table: NDArray[np.int16], where: str, explanation: str) -> NDArray[np.uint8]:
    """Turn stored values (H, W) uint8 into labels (H, W) uint8: class index, 255 = ignored.

    `table` (256,) int16 gives the label by stored value, -1 for values that masks of this kind do not hold. Raises
    UnknownValuesError, which calls the mask `where` and explains which values are allowed, where it holds such a value.
    """
    wrong = np.flatnonzero(np.bincount(mask.ravel(), minlength=256) * (table < 0))
    if wrong.size:
        raise UnknownValuesError.of(where, "value", [str(value) for value in wrong], explanation)
    return table.astype(np.uint8)[mask]


class FittedLabel(NamedTuple):
    """The label of an image, at its size."""

    label: NDArray[np.uint8]
    """(H, W) uint8."""
    assumed: bool
    """Whether it was turned as the image is though nothing tells, not even its size, which way up it is."""


def fit_label(
    label: NDArray[np.uint8], image: CheckedImage, mask_orientation: Callable[[], int], mask_name: str, image_name: str
) -> FittedLabel:
    """Turn a label (H, W) uint8 as its image is turned, and compare their sizes.

    Every file is turned by its own EXIF orientation. A mask without one belongs to the pixels of the image as they are
    stored, and is turned with them; except where its size tells that it was drawn on the upright image.

    `mask_orientation` tells the mask's own EXIF orientation, 1 to 8, and is asked only where it matters; messages call
    the files `mask_name` and `image_name` ("its image a.jpg"). Raises UserError where their sizes differ.
    """
    stored = image.size[::-1] if image.orientation > 4 else image.size
    if image.orientation > 1 and label.shape == stored and mask_orientation() == 1:
        turned = Image.fromarray(label).transpose(TURNS[image.orientation])
        return FittedLabel(np.array(turned), assumed=stored == image.size)
    if label.shape != image.size:
        (label_height, label_width), (height, width) = label.shape, image.size
        raise UserError(
            f"{mask_name} has {label_width} x {label_height} pixels, {image_name} has {width} x {height}; "
            f"they must be equal.{_reason(label.shape, image, mask_orientation)}"
        )
    return FittedLabel(label, assumed=False)


def _reason(label: tuple[int, ...], image: CheckedImage, mask_orientation: Callable[[], int]) -> str:
    """What the EXIF orientation has to do with sizes that differ."""
    if label != image.size[::-1]:
        return ""
    both = (("image", image.orientation), ("mask", mask_orientation()))
    whose = [f"the {what}'s is {value}" for what, value in both if value > 1]
    if not whose:
        return " One of them lies on its side: was the EXIF orientation lost when one was saved?"
    return f" One of them lies on its side by its EXIF orientation: {' and '.join(whose)}."
