"""Colours of classes: deterministic, distinct, and apart for colour-blind readers too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
"""RGB, 0..255."""

FIRST_COLOURS: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (136, 34, 85),
    (51, 34, 136),
    (170, 225, 120),
    (255, 176, 190),
)
"""The palette of Okabe and Ito (2008) without its black, and four that stay apart from it."""
SPREAD_COLOURS = 256
"""So many colours are chosen far apart from each other; beyond that they are only different."""
_LEVELS = np.linspace(20, 245, 12)
# Viénot, Brettel and Mollon (1999), on linear RGB: how red- and green-blind readers see a colour.
_PROTANOPIA = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
_DEUTERANOPIA = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
_RGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])


def class_colours(classes: Sequence[str], known: Mapping[str, Colour] | None = None) -> tuple[Colour, ...]:
    """Give each class a colour.

    Args:
        classes: The K class names.
        known: Colours that are already settled, by class name (a split's own); the rest comes from `distinct_colours`.

    Returns:
        K colours, in the order of the classes.
    """
    settled = known or {}
    taken = {settled[name] for name in classes if name in settled}
    spare = (colour for colour in distinct_colours(len(classes) + len(taken)) if colour not in taken)
    return tuple(settled[name] if name in settled else next(spare) for name in classes)


def distinct_colours(count: int) -> tuple[Colour, ...]:
    """The first `count` colours of one fixed sequence; no two are equal.

    The first seven are Okabe and Ito's, and four were picked to go with them. Up to 256, each further one is the colour
    farthest from all before it, as seen by the reader who finds it hardest (normal, red-blind or green-blind sight).
    """
    spread = _spread_colours()
    return spread[:count] if count <= len(spread) else (*spread, *_further_colours(count - len(spread), set(spread)))


def png_palette(colours: Sequence[Colour]) -> bytes:
    """The 768 palette bytes of an indexed PNG: the classes' colours, black for the rest and for 255 = no class."""
    return bytes(value for colour in colours for value in colour).ljust(768, b"\0")


@cache
def _spread_colours() -> tuple[Colour, ...]:
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS, indexing="ij"), axis=-1).reshape(-1, 3).round()
    candidates = np.concatenate([np.array(FIRST_COLOURS, dtype=np.float64), grid])
    seen = _as_seen(candidates)
    # Near-black and near-white candidates would read as "no class" and as paper.
    candidates, seen = (values[_is_readable(seen)] for values in (candidates, seen))
    nearest = np.full(len(candidates), np.inf)
    chosen: list[int] = []
    while len(chosen) < SPREAD_COLOURS:
        following = len(chosen) if len(chosen) < len(FIRST_COLOURS) else int(nearest.argmax())
        chosen.append(following)
        nearest = np.minimum(nearest, np.linalg.norm(seen - seen[following], axis=2).min(axis=1))
    return tuple(_colour(candidates[index]) for index in chosen)


def _as_seen(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB coordinates (n, 3, 3) of RGB colours (n, 3) for normal, red-blind and green-blind sight."""
    scaled = colours / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
    sights = [linear, linear @ _PROTANOPIA.T, linear @ _DEUTERANOPIA.T]
    return np.stack([_lab(sight.clip(0, 1)) for sight in sights], axis=1)


def _lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio = linear @ _RGB_TO_XYZ.T / _WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def _is_readable(seen: NDArray[np.float64]) -> NDArray[np.bool_]:
    lightness: NDArray[np.float64] = seen[:, 0, 0]
    return (lightness > 25) & (lightness < 92)


def _further_colours(count: int, taken: set[Colour]) -> list[Colour]:
    """Steps through all 2^24 colours by an odd stride, so that none comes twice."""
    further: list[Colour] = []
    value = 0
    while len(further) < count:
        value = (value + 0x9E3779) % 2**24
        colour = (value >> 16, value >> 8 & 255, value & 255)
        if colour not in taken:
            further.append(colour)
    return further


def _colour(values: NDArray[np.float64]) -> Colour:
    red, green, blue = (int(value) for value in values)
    return red, green, blue
