"""What is odd about images and masks without being wrong: noted image by image, told once for the whole dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from cascade_clip.data.images import CheckedImage, mask_palette, small_range_hint

_TURNED, _SMALL_RANGE, _COLOUR, _PLACE_OF_COLOUR = "turned", "small range", "colour", "place of colour"


class Remark(NamedTuple):
    """One odd thing about an image or its mask."""

    kind: str
    subject: str
    """What it is about, for example an index of a palette."""
    value: str
    """What was found of it, for example its colour."""
    place: str
    """The file, for messages."""


def remarks_on_image(image: CheckedImage, name: str) -> list[Remark]:
    """What is odd about an image; `name` is what messages call it."""
    return [] if image.highest is None else [Remark(_SMALL_RANGE, "", str(image.highest), name)]


def remark_on_turned_mask(name: str) -> Remark:
    """A mask was turned as its image is, and nothing in the mask itself tells which way up it is."""
    return Remark(_TURNED, "", "", name)


def remarks_on_palette(mask: bytes, used: Iterable[int], name: str) -> list[Remark]:
    """The colours of the indices that a mask uses; nothing where its file has no palette."""
    palette = mask_palette(mask)
    colours = list(palette.values())
    found = [(index, palette[index]) for index in used if index in palette]
    unique = [(index, colour) for index, colour in found if colours.count(colour) == 1]
    return [
        *(Remark(_COLOUR, str(index), colour, name) for index, colour in found),
        *(Remark(_PLACE_OF_COLOUR, colour, str(index), name) for index, colour in unique),
    ]


def first_of_each(remarks: Iterable[Remark]) -> list[Remark]:
    """Remarks without those whose kind, subject and value an earlier one has."""
    first: dict[tuple[str, ...], Remark] = {}
    for remark in remarks:
        first.setdefault(remark[:3], remark)
    return list(first.values())


def warnings_about(remarks: Iterable[Remark]) -> list[str]:
    """What to tell the user: a sentence or two for each kind of oddity, with a file as an example."""
    found: defaultdict[str, defaultdict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for kind, subject, value, place in remarks:
        found[kind][subject].setdefault(value, place)
    told = []
    if ranges := found[_SMALL_RANGE][""]:
        highest = max(ranges, key=int)
        told.append(small_range_hint(ranges[highest], int(highest)))
    if turned := found[_TURNED][""]:
        told.append(
            f"Masks without an EXIF orientation were turned as their images are, {turned['']} for one. If they were "
            "drawn on the upright images, save these upright, without EXIF orientation, and prepare them again."
        )
    colours_of = found[_COLOUR]
    if (white := colours_of.get("0", {}).get("#ffffff")) and "#000000" in colours_of.get("1", {}):
        told.append(
            f"In the palette of {white} white has the index 0 and black the index 1. The indices were taken for the "
            "classes. If white is the second class, give --mask-values 1,0."
        )
    for index, colours in colours_of.items():
        if len(colours) > 1:
            (one, first), (other, second), *_ = colours.items()
            told.append(_palettes_disagree(f"the index {index} is {one} in {first} and {other} in {second}"))
            return told
    for colour, indices in found[_PLACE_OF_COLOUR].items():
        if len(indices) > 1:
            (one, first), (other, second), *_ = indices.items()
            told.append(_palettes_disagree(f"{colour} is the index {one} in {first} and {other} in {second}"))
            return told
    return told


def _palettes_disagree(how: str) -> str:
    return (
        f"Palettes of the masks disagree: {how}. The indices were taken for the classes. If the colours are the "
        "classes, give their table: prepare-data folder --colours."
    )
