"""The classes of the drawn world: things are compositions of attributes, stuff is a texture."""

from dataclasses import dataclass
from typing import Final

SHAPES: Final = ("circle", "square", "triangle", "star", "heart", "ring")
COLOURS: Final = {
    "red": (214, 40, 44),
    "yellow": (244, 206, 40),
    "green": (38, 150, 62),
    "blue": (38, 86, 212),
    "purple": (146, 52, 176),
}
PATTERNS: Final = ("striped", "spotted")
STUFF: Final = (
    "grass",
    "sand",
    "water",
    "snow",
    "brick wall",
    "wooden floor",
    "tiled floor",
    "gravel",
    "cobblestones",
    "marble",
    "cloudy sky",
    "lava",
)
COUNTED_STUFF: Final = frozenset({"brick wall", "wooden floor", "tiled floor", "cloudy sky"})
"""Stuff that takes an article in a sentence ("a brick wall", but "grass")."""


@dataclass(frozen=True)
class Thing:
    """A class of things, composed of a shape, a colour and, for some, a pattern on white."""

    shape: str
    colour: str
    pattern: str | None = None

    @property
    def name(self) -> str:
        """The class name, such as `red star` or `striped blue circle`."""
        return " ".join(part for part in (self.pattern, self.colour, self.shape) if part)


_PLAIN: Final = {
    "circle": ("red", "yellow", "green", "blue"),
    "square": ("red", "yellow", "blue", "purple"),
    "triangle": ("red", "green", "blue", "purple"),
    "star": ("red", "yellow", "green", "purple"),
    "heart": ("red", "yellow", "blue", "purple"),
    "ring": ("yellow", "green", "blue", "purple"),
}

THINGS: Final = (
    *(Thing(shape, colour) for shape, colours in _PLAIN.items() for colour in colours),
    Thing("circle", "blue", "striped"),
    Thing("square", "red", "striped"),
    Thing("triangle", "yellow", "striped"),
    Thing("heart", "green", "striped"),
    Thing("circle", "purple", "spotted"),
    Thing("square", "green", "spotted"),
    Thing("triangle", "red", "spotted"),
    Thing("star", "yellow", "spotted"),
)

CLASS_NAMES: Final = (*(thing.name for thing in THINGS), *STUFF)
"""All class names in label order: things first, then stuff."""

UNSEEN: Final = (
    "green circle",
    "purple square",
    "red star",
    "blue heart",
    "yellow ring",
    "striped red square",
    "spotted purple circle",
    "water",
    "wooden floor",
    "gravel",
)
"""Classes whose masks the split `shapes-seen` hides; captions name them like all others."""


def stuff_index(name: str) -> int:
    """Return the label of a stuff class.

    Args:
        name: One of `STUFF`.

    Returns:
        Index into `CLASS_NAMES`.

    Raises:
        ValueError: If `name` is no stuff class.
    """
    return len(THINGS) + STUFF.index(name)
