"""What is wrong with the images of a source, or odd: found image by image, told once for each kind."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from cascade_clip.data.images import CheckedImage, mask_palette, small_range_hint
from cascade_clip.data.mask_values import UnknownValuesError
from cascade_clip.errors import UserError

_KINDS_SHOWN, _EXAMPLES_SHOWN, _VALUES_SHOWN = 10, 3, 8


class Problem(NamedTuple):
    """Something wrong with one image, mask or line."""

    text: str
    """One or more whole sentences."""
    about: str
    """What it is about, short enough for a list of examples."""
    names: tuple[str, ...] = ()
    """Parts of the text in which problems of one kind differ, beside numbers; none: `about`."""
    values: tuple[str, ...] = ()
    """Values of a mask that are no class."""

    @classmethod
    def of_image(cls, error: UserError, about: str, names: Iterable[str]) -> Self:
        """What was raised for an image; `names` are those of its files."""
        values, shown = (error.values, (error.shown,)) if isinstance(error, UnknownValuesError) else ((), ())
        return cls(str(error), about, (*names, *shown), values)

    @property
    def kind(self) -> str:
        """The text without what differs from image to image: equal for problems of one kind."""
        text = self.text
        for name in sorted(filter(None, self.names or (self.about,)), key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "…", text)
        return re.sub(r"\d[\d,.]*", "#", text)


def refuse(problems: Sequence[Problem], *, images: int | None = None) -> None:
    """Raise one UserError for all that is wrong with a source, if anything is: the number, the ten commonest kinds,
    examples.

    `images` is how many there are, to say where a problem is the same in all of them.
    """
    if not problems:
        return
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    count = "One problem was" if len(problems) == 1 else f"{len(problems):,} problems were"
    of_kinds = "" if len(kinds) == len(problems) else f", of {'one kind' if len(kinds) == 1 else f'{len(kinds)} kinds'}"
    commonest = sorted(kinds.values(), key=lambda alike: -len(alike))
    lines = [f"{count} found{of_kinds}; nothing was written:"]
    for alike in commonest[:_KINDS_SHOWN]:
        lines += [f"  {alike[0].text}", *(f"    {line}" for line in _others_like(alike, images))]
    if len(kinds) > _KINDS_SHOWN:
        lines.append(f"  and {sum(map(len, commonest[_KINDS_SHOWN:])):,} more.")
    raise UserError("\n".join(lines))


def _others_like(alike: Sequence[Problem], images: int | None) -> list[str]:
    """How many further problems are of the kind of the first one, with examples and the values that masks hold."""
    if len(alike) == 1:
        return []
    others = list(dict.fromkeys(problem.about for problem in alike[1:]))
    shown = ", ".join(others[:_EXAMPLES_SHOWN])
    where = f"all {images:,} images" if len(alike) == images else f"{len(alike) - 1:,} more"
    every = len(others) <= _EXAMPLES_SHOWN
    examples = (": " if every else ", for example ") + shown
    lines = [f"The same in {where}{'' if every and len(alike) == images else examples}."]
    values = Counter(value for problem in alike for value in problem.values)
    if len(values) > 1:
        counted = [f"{value} in {count:,}" for value, count in values.most_common(_VALUES_SHOWN)]
        lines.append(f"By value: {', '.join(counted)}{' and others' if len(values) > _VALUES_SHOWN else ''}.")
    return lines


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
