"""From the values of an index mask to labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cascade_clip.errors import UserError
from cascade_clip.labels import IGNORED


@dataclass(frozen=True)
class MaskValues:
    """Values of a single-channel mask that holds class indices."""

    class_count: int
    first_index: int = 0
    """Mask value of the first class."""
    ignore: frozenset[int] = frozenset()
    """Mask values that become 255; 255 always does."""

    def to_labels(self, mask: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
        """Turn a mask into labels; see `look_up`."""
        explanation = (
            f"the {self.class_count} classes have the values {self.first_index} to "
            f"{self.first_index + self.class_count - 1}. Values that mean no class are given with --ignore, "
            "and --first-index 1 counts from 1."
        )
        return look_up(mask, self._table, where, explanation)

    @cached_property
    def _table(self) -> NDArray[np.int16]:
        label_of = {value: label for label, value in enumerate(range(self.first_index, IGNORED)[: self.class_count])}
        return value_table(label_of | dict.fromkeys(self.ignore, IGNORED))


def value_table(label_of: Mapping[int, int]) -> NDArray[np.int16]:
    """Make the table for `look_up` from labels by stored value; 255 always stays 255."""
    table = np.full(256, -1, np.int16)
    for value, label in {**label_of, IGNORED: IGNORED}.items():
        table[value] = label
    return table


def look_up(mask: NDArray[np.uint8], table: NDArray[np.int16], where: str, explanation: str) -> NDArray[np.uint8]:
    """Turn stored values into labels.

    Args:
        mask: (H, W) uint8 as stored.
        table: (256,) int16: label by stored value, -1 for values that masks of this kind do not hold.
        where: What messages call the mask.
        explanation: Which values are allowed, for the message.

    Returns:
        (H, W) uint8: class index, 255 = ignored.

    Raises:
        UserError: The mask holds a value that has no label.
    """
    wrong = np.flatnonzero(np.bincount(mask.ravel(), minlength=256) * (table < 0))
    if wrong.size:
        shown = ", ".join(str(value) for value in wrong[:5]) + (" ..." if wrong.size > 5 else "")
        values = "the value" if wrong.size == 1 else "the values"
        raise UserError(f"{where} holds {values} {shown}, which is no class: {explanation}")
    labels: NDArray[np.uint8] = table.astype(np.uint8)[mask]
    return labels
