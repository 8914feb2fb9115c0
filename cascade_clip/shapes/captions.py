"""Captions in varied wording, as the web would have them: they name what is there, never where."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from cascade_clip.shapes.vocabulary import COUNTED_STUFF, STUFF

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


def with_article(name: str, article: str = "a") -> str:
    """Put an article before a class name, except before stuff that takes none.

    Args:
        name: A class name.
        article: `a`, `the` or another word.

    Returns:
        For instance `a red star`, `a brick wall` or `grass`.
    """
    if name in STUFF and name not in COUNTED_STUFF:
        return name
    return f"{article} {name}"


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


def caption(things: Sequence[str], stuff: Sequence[str], rng: np.random.Generator) -> str:
    """Word a whole scene.

    Args:
        things: Names of the things, possibly repeated, possibly none.
        stuff: Names of the stuff, at least one unless there are things.
        rng: Source of order and wording.

    Returns:
        One sentence that names every class given.
    """
    named = list(dict.fromkeys(things))
    thing_phrases = [_phrase(named[i], rng) for i in rng.permutation(len(named))]
    stuff_phrases = [_phrase(stuff[i], rng) for i in rng.permutation(len(stuff))]
    if not thing_phrases or not stuff_phrases:
        return _ONE[int(rng.integers(len(_ONE)))].format(_enumerate(thing_phrases or stuff_phrases))
    template = _SCENES[int(rng.integers(len(_SCENES)))]
    return template.format(things=_enumerate(thing_phrases), stuff=_enumerate(stuff_phrases))


def caption_of_one(name: str, rng: np.random.Generator) -> str:
    """Word a caption that names a single class, such as `a photo of a large red star.`

    Args:
        name: A class name.
        rng: Source of the wording.

    Returns:
        One sentence.
    """
    phrase = _phrase(name, rng) if rng.integers(2) else f"a {name}"
    return _ONE[int(rng.integers(len(_ONE)))].format(phrase)
