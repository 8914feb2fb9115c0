"""Recognising by evidence how converted masks of PASCAL Context number the 59 classes.

Two orders circulate, alphabetical (mmsegmentation's conversion) and VOC's classes first (the official 59_labels.txt),
and masks count from 1 with 0 for no class or, reduced, from 0. VOC's own masks of the same images tell which it is: of
the pixels on which VOC names one of its 20 classes, the right reading agrees on nearly all, a wrong one hardly on any.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.images import decode_label
from cascade_clip.errors import UserError
from cascade_clip.preparation.context_classes import (
    ALIASES,
    CONTEXT_IDS,
    ORDERS_EXPLAINED,
    READINGS,
    ClassOrder,
    ListedOrder,
    Reading,
)
from cascade_clip.preparation.source_tree import Entry

log = logging.getLogger(__name__)

# The evidence decides from so many pixels of VOC's classes on; a single image, for finding mixtures, from so many.
_PIXELS, _PIXELS_OF_IMAGE = 5000, 500

# The right reading agrees on at least half of the pixels, a wrong one on no more than a quarter.
_AGREES, _DISAGREES = 0.5, 0.25

# Of so many images one may read otherwise by chance: a sofa under a cloth has the value of the other order's sofa.
_MIXTURE = 100

# Without evidence for the start, so many masks without the value 59 (wood) are reduced ones.
_ENOUGH_FOR_WOOD = 1000

# The official masks of 33 classes begin with VOC's 20 as well.
_CLASSES_OF_SMALL_SET = 33


@dataclass(frozen=True)
class Recognised:
    """How masks are to be read, and what tells so."""

    reading: Reading
    told_by: str
    """"VOC's own masks", the name of a class list, or "class_order"."""


@dataclass
class Evidence:
    """Masks compared with VOC's own masks of the same images."""

    images: int = 0
    pixels: int = 0
    """Pixels on which VOC names one of its 20 classes."""
    agreeing: dict[Reading, int] = field(default_factory=lambda: dict.fromkeys(READINGS, 0))
    """How many of them each reading names alike."""
    votes: dict[Reading, list[str]] = field(default_factory=lambda: {reading: [] for reading in READINGS})
    """Images that speak clearly for one reading."""
    largest: int = 0
    """Largest value but 255."""

    def share(self, reading: Reading) -> float:
        """Share of the pixels on which a reading agrees."""
        return self.agreeing[reading] / max(self.pixels, 1)

    @property
    def figures(self) -> str:
        """All shares, for messages."""
        shares = ", ".join(f"{reading}: {100 * self.share(reading):.1f} %" for reading in READINGS)
        return f"of {self.pixels:,} pixels of VOC's classes in {self.images:,} images agree, read {shares}"


def recognise_reading(
    masks: Mapping[str, Entry],
    voc_masks: Mapping[str, Entry],
    *,
    listed: ListedOrder | None,
    given: ClassOrder | None,
    where: str,
) -> Recognised:
    """Tell how converted masks number the classes.

    VOC's own masks decide where they share at least 5,000 pixels of VOC's classes with the masks, the right reading
    agrees on half of them or more, and every other on a quarter or less. A class list beside the masks and the order
    given choose among what the evidence leaves open, and must not contradict it. Where only the start stays open, a
    value of 59 means counting from 1, and a thousand masks without it counting from 0.

    Args:
        masks: The masks by image.
        voc_masks: VOC's own masks (SegmentationClass) by image, as far as there are any.
        listed: What a class list beside the masks says.
        given: The order that the user names.
        where: Where the masks lie, for messages.

    Returns:
        The reading, and what told so.

    Raises:
        UserError: Both orders are mixed; evidence, class list and the order given contradict one another (with
            figures); the masks agree with VOC's in no reading, or are those of the 33 classes; or there is no
            evidence, and no order was given.
    """
    common = [stem for stem in masks if stem in voc_masks]
    log.info("Comparing %d masks with VOC's own of the same images.", len(common))
    evidence = compare_with_voc((stem, masks[stem], voc_masks[stem]) for stem in common)
    left, told_by = _left_by_evidence(evidence, where), "VOC's own masks"
    if listed and _undecided(left):
        told_by = listed.file.rpartition("/")[2]
    left = _left_by_list(left, listed, evidence)
    if given and _undecided(left):
        told_by = "class_order"
    left = _left_by_given(left, given, listed, evidence, where)
    if _undecided(left):
        why = f"cover {evidence.pixels:,} of their pixels, where {_PIXELS:,} are needed"
        if evidence.pixels >= _PIXELS:
            why = f"agree with both orders ({evidence.figures})"
        raise UserError(
            f"The class order of the masks in {where} cannot be told: no class list lies beside them, and VOC's own "
            f"masks (SegmentationClass) {why}. Give --class-order {ORDERS_EXPLAINED}."
        )
    return Recognised(left[0] if len(left) == 1 else _by_start(left, masks, where), told_by)


def _undecided(left: Sequence[Reading]) -> bool:
    return len({reading.order for reading in left}) > 1


def _left_by_evidence(evidence: Evidence, where: str) -> Sequence[Reading]:
    """Readings that VOC's masks do not exclude."""
    _refuse_mixture(evidence, where)
    if evidence.pixels < _PIXELS:
        return READINGS
    left = _clear_readings(evidence.agreeing, evidence.pixels)
    if not left:
        raise UserError(
            f"The masks in {where} are no masks of PASCAL Context's 59 classes in a known order: {evidence.figures}."
        )
    if evidence.images >= _MIXTURE and evidence.largest <= _CLASSES_OF_SMALL_SET:
        raise UserError(
            f"The masks in {where} hold no value above {evidence.largest} in {evidence.images:,} images: "
            f"they are those of the {_CLASSES_OF_SMALL_SET} classes, but the 59 are needed."
        )
    return left


def _refuse_mixture(evidence: Evidence, where: str) -> None:
    votes = sorted(((names, reading) for reading, names in evidence.votes.items() if names), key=lambda v: -len(v[0]))
    if sum(len(names) for names, _ in votes[1:]) * _MIXTURE <= sum(len(names) for names, _ in votes):
        return
    shown = " and ".join(
        f"{len(names)} {reading} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for names, reading in votes
    )
    raise UserError(
        f"The masks in {where} are mixed: compared with VOC's own, {shown} were found. "
        "Give a folder in which all come from one conversion."
    )


def _left_by_list(left: Sequence[Reading], listed: ListedOrder | None, evidence: Evidence) -> Sequence[Reading]:
    if listed is None:
        return left
    agreeing = [r for r in left if r.order == listed.order and listed.first_index in (None, r.first_index)]
    if not agreeing:
        start = "" if listed.first_index is None else f" from {listed.first_index}"
        raise UserError(
            f"{listed.file} lists the classes {listed.order}{start}, but the masks beside it hold others: "
            f"{evidence.figures}. Remove the list if it does not belong to these masks."
        )
    return agreeing


def _left_by_given(
    left: Sequence[Reading], given: ClassOrder | None, listed: ListedOrder | None, evidence: Evidence, where: str
) -> Sequence[Reading]:
    agreeing = [reading for reading in left if reading.order == given]
    if given is None or agreeing:
        return agreeing or left
    told = evidence.figures if evidence.pixels >= _PIXELS or not listed else f"{listed.file} says so"
    raise UserError(
        f"--class-order {given} contradicts the masks in {where}, which are {left[0].order}: {told}. "
        "Leave --class-order out: masks of either order are converted."
    )


def compare_with_voc(images: Iterable[tuple[str, Entry, Entry]]) -> Evidence:
    """Count on how many pixels of VOC's 20 classes each reading of the masks agrees.

    Args:
        images: Name, mask and VOC's own mask of each image; one of another size than VOC's is passed over here, because
            preparing compares it with its image.

    Returns:
        The counts.

    Raises:
        UserError: A file is broken.
    """
    evidence = Evidence()
    for name, mask, voc_mask in images:
        values, voc = decode_label(mask.read(), str(mask)), decode_label(voc_mask.read(), str(voc_mask))
        if values.shape != voc.shape:
            continue
        joint = np.bincount(voc.ravel().astype(np.int64) * 256 + values.ravel(), minlength=256 * 256).reshape(256, 256)
        pixels = int(joint[1:21].sum())
        agreeing = {reading: int(joint[np.arange(1, 21), _values_of_voc(reading)].sum()) for reading in READINGS}
        evidence.images += 1
        evidence.pixels += pixels
        evidence.largest = max(evidence.largest, int(values[values != 255].max(initial=0)))
        for reading, count in agreeing.items():
            evidence.agreeing[reading] += count
        clear = _clear_readings(agreeing, pixels)
        if pixels >= _PIXELS_OF_IMAGE and len(clear) == 1:
            evidence.votes[clear[0]].append(name)
    return evidence


@cache
def _values_of_voc(reading: Reading) -> NDArray[np.intp]:
    """Mask value of each of VOC's classes 1..20."""
    names = [ALIASES.get(name, name) for name in get_split("voc").class_names]
    return np.array([reading.names.index(name) + reading.first_index for name in names])


def _clear_readings(agreeing: Mapping[Reading, int], pixels: int) -> list[Reading]:
    """Readings that are not excluded; none where not even the best agrees on half of the pixels."""
    if max(agreeing.values()) < _AGREES * pixels:
        return []
    return [reading for reading, count in agreeing.items() if count > _DISAGREES * pixels]


def _by_start(left: Sequence[Reading], masks: Mapping[str, Entry], where: str) -> Reading:
    """Choose between counting from 1 and from 0 in one order by the value 59, which only the former has."""
    from_one, from_zero = sorted(left, key=lambda reading: -reading.first_index)
    wood = len(CONTEXT_IDS)
    if any((decode_label(mask.read(), str(mask)) == wood).any() for mask in masks.values()):
        return from_one
    if len(masks) >= _ENOUGH_FOR_WOOD:
        return from_zero
    raise UserError(
        f"Whether 0 means no class or aeroplane cannot be told from the {len(masks)} masks in {where}: none holds 59, "
        "and too few pixels of VOC's own masks (SegmentationClass) lie over them. Add those, or a classes.txt that "
        "begins with background where 0 means no class and with 0: aeroplane where it does not."
    )
