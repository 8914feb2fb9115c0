"""Shapes as signed distance fields, and how a thing's surface is coloured and lit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cascade_clip.shapes.classes import COLOURS, Thing

Array = NDArray[np.floating[Any]]
Distance = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Pose:
    """Where and how a thing lies: centre and radius in pixels, turn in radians, aspect = width over height."""

    centre_y: float
    centre_x: float
    radius: float
    turn: float
    aspect: float


def _triangle(y: Array, x: Array) -> Array:
    slant = np.float32(np.sqrt(0.75)) * np.abs(x) - np.float32(0.5) * y
    return np.maximum(y, slant) - np.float32(0.58)


def _star(y: Array, x: Array) -> Array:
    outer, inner, sector = 1.2, 0.52, np.float32(np.pi / 5)
    angle = np.abs(np.mod(np.arctan2(x, -y) + sector, 2 * sector) - sector)
    radius = np.hypot(y, x)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    tip_to_notch = np.asarray((inner * np.cos(sector) - outer, inner * np.sin(sector)), np.float32)
    normal = np.asarray((tip_to_notch[1], -tip_to_notch[0])) / np.hypot(*tip_to_notch)
    return (along - np.float32(outer)) * normal[0] + across * normal[1]


def _heart(y: Array, x: Array) -> Array:
    scale = np.float32(1.75)
    u, v = np.abs(x) / scale, np.float32(0.56) - y / scale
    lobe = np.hypot(u - 0.25, v - 0.75) - np.float32(np.sqrt(2) / 4)
    diagonal = 0.5 * np.maximum(u + v, 0)
    flank = np.minimum(np.hypot(u, v - 1), np.hypot(u - diagonal, v - diagonal)) * np.sign(u - v)
    return np.where(u + v > 1, lobe, flank) * scale


DISTANCES: Final[dict[str, Distance]] = {
    "circle": lambda y, x: np.hypot(y, x) - np.float32(1),
    "square": lambda y, x: np.maximum(np.abs(y), np.abs(x)) - np.float32(0.85),
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "ring": lambda y, x: np.abs(np.hypot(y, x) - np.float32(0.74)) - np.float32(0.3),
}
TURNS: Final = {"circle": 0.4, "square": np.pi / 4, "triangle": np.pi, "star": np.pi / 5, "heart": 0.5, "ring": 0.4}
"""Shape -> the largest turn to either side, in radians."""
REACH: Final = 1.3
"""Half-width of the box around a thing, in radii."""


def local_axes(pose: Pose, top: int, left: int, height: int, width: int) -> tuple[Array, Array]:
    """Pixel centres of a box in the thing's own frame: y and x, (height, width) float32, in radii from its centre."""
    y = np.arange(top, top + height, dtype=np.float32)[:, None] + np.float32(0.5 - pose.centre_y)
    x = np.arange(left, left + width, dtype=np.float32)[None, :] + np.float32(0.5 - pose.centre_x)
    cos, sin = np.float32(np.cos(pose.turn)), np.float32(np.sin(pose.turn))
    stretch = np.float32(np.sqrt(pose.aspect))
    radius = np.float32(pose.radius)
    return (cos * y - sin * x) * (stretch / radius), (sin * y + cos * x) / (stretch * radius)


def _pattern_weight(thing: Thing, y: Array, x: Array, radius: float, rng: np.random.Generator) -> Array:
    """Share of white at each point (H, W) in 0..1, with edges about a pixel soft."""
    period = rng.uniform(6.5, 9.0) / radius
    angle = rng.uniform(-0.5, 0.5)
    u = (np.cos(angle) * x + np.sin(angle) * y) / period + rng.uniform(0, 1)
    v = (np.cos(angle) * y - np.sin(angle) * x) / period + rng.uniform(0, 1)
    sharpness = np.float32(period * radius)
    if thing.pattern == "striped":
        distance = np.abs(u - np.floor(u) - 0.5) - 0.25
    else:
        u = u + 0.5 * np.mod(np.floor(v), 2)
        distance = np.hypot(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5) - 0.31
    return np.clip(0.5 - distance * sharpness, 0, 1).astype(np.float32)


def surface(thing: Thing, pose: Pose, y: Array, x: Array, distance: Array, *, rng: np.random.Generator) -> Array:
    """Colour a thing that lies as `pose` says: pigment, pattern, light from one side and a darker rim.

    `y` and `x` are rows and columns in the thing's frame (H, W), in radii; `distance` the signed distance to its
    outline (H, W) in pixels, negative within; `rng` decides tint, pattern and light. Gives (H, W, 3) float32, about
    0..255.
    """
    pigment = np.asarray(COLOURS[thing.colour], np.float32) + rng.uniform(-16, 16, 3).astype(np.float32)
    colours = np.broadcast_to(pigment, (*y.shape, 3))
    if thing.pattern is not None:
        white = _pattern_weight(thing, y, x, pose.radius, rng)[..., None]
        colours = colours + white * (np.float32(244) - pigment)
    light = rng.uniform(0, 2 * np.pi)
    shade = 1 + np.float32(rng.uniform(0.05, 0.28)) * (np.cos(light) * y + np.sin(light) * x)
    rim = np.clip(-distance / 2.0, 0, 1) * np.float32(0.3) + np.float32(0.7)
    return colours * (shade * rim).astype(np.float32)[..., None]
