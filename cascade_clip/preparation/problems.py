"""What is wrong with the images of a source: found image by image, told once for each kind."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

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
    def of_image(cls, error: UserError, about: str, names: Iterable[str]) -> Problem:
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
    """Raise one UserError for all that is wrong with a source, if anything is.

    Args:
        problems: The error has their number, the ten commonest kinds, and examples of each.
        images: How many images there are, to say where a problem is the same in all of them.
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
