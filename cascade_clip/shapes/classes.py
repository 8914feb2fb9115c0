"""The classes of the drawn world, and captions that name them.

Things are compositions of attributes, stuff is a texture. Captions vary in wording, as those of the web do; they name
what is in a scene, never where.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

COLOURS: Final = {
    "red": (214, 40, 44),
    "yellow": (244, 206, 40),
    "green": (38, 150, 62),
    "blue": (38, 86, 212),
    "purple": (146, 52, 176),
}
STUFF: Final = (
    *("grass", "sand", "water", "snow", "brick wall", "wooden floor", "tiled floor", "gravel", "cobblestones"),
    *("marble", "cloudy sky", "lava"),
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

_SCENES: Final = (
    "{things} on {stuff}",
    "a photo of {things} on {stuff}",
    "a photo of {things} and {stuff}.",
    "{things} in front of {stuff}.",
    "{things} with {stuff}",
    "there is {things} on {stuff}.",
    "this is a photo of {things} on {stuff}.",
    "{stuff} with {things}",
    "a picture of {stuff} and {things}",
)
_ONE: Final = (
    "a photo of {}",
    "a photo of {}.",
    "a picture of {}",
    "{}",
    "{} in the scene.",
    "there is {} in the scene.",
    "this is a photo of {}.",
    "an image of {}",
)
_SIZES: Final = ("", "", "", "small ", "medium ", "large ")


def stuff_index(name: str) -> int:
    """The label of a class of stuff, its index in `CLASS_NAMES`; raises ValueError for any other name."""
    return len(THINGS) + STUFF.index(name)


def with_article(name: str, article: str = "a") -> str:
    """Put an article before a class name, except before stuff that takes none: "a brick wall", but "grass"."""
    if name in STUFF and name not in COUNTED_STUFF:
        return name
    return f"{article} {name}"


def caption(things: Sequence[str], stuff: Sequence[str], rng: np.random.Generator) -> str:
    """Word a whole scene in one sentence that names every class given, things and stuff, one of them at least."""
    named = list(dict.fromkeys(things))
    thing_phrases = [_phrase(named[i], rng) for i in rng.permutation(len(named))]
    stuff_phrases = [_phrase(stuff[i], rng) for i in rng.permutation(len(stuff))]
    if not thing_phrases or not stuff_phrases:
        return _ONE[int(rng.integers(len(_ONE)))].format(_enumerate(thing_phrases or stuff_phrases))
    template = _SCENES[int(rng.integers(len(_SCENES)))]
    return template.format(things=_enumerate(thing_phrases), stuff=_enumerate(stuff_phrases))


def caption_of_one(name: str, rng: np.random.Generator) -> str:
    """Word a sentence that names a single class, such as "a photo of a large red star."."""
    phrase = _phrase(name, rng) if rng.integers(2) else f"a {name}"
    return _ONE[int(rng.integers(len(_ONE)))].format(phrase)


def _enumerate(phrases: Sequence[str]) -> str:
    """Join phrases as in speech: `a`, `a and b`, `a, b and c`."""
    if len(phrases) == 1:
        return phrases[0]
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _phrase(name: str, rng: np.random.Generator) -> str:
    article = ("a", "a", "a", "the", "one")[int(rng.integers(5))]
    if name in STUFF:
        return with_article(name, article)
    return f"{article} {_SIZES[int(rng.integers(len(_SIZES)))]}{name}"
