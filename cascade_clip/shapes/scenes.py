"""Scenes: things, partly hiding one another, on one to three regions of stuff."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cascade_clip.labels import LabelMap
from cascade_clip.shapes.classes import CLASS_NAMES, STUFF, THINGS, Thing, caption, stuff_index
from cascade_clip.shapes.textures import TEXTURES, noise_bank, window
from cascade_clip.shapes.things import DISTANCES, REACH, TURNS, Pose, local_axes, surface

Array = NDArray[np.float32]
LEAST_VISIBLE: Final = 0.45
"""A thing is only placed where it and every earlier thing keep this share of their pixels in view."""
_ATTEMPTS: Final = 6
_RADII: Final = (9.0, 24.0)
"""Smallest and largest radius of a thing in pixels."""


@dataclass(frozen=True)
class DrawnThing:
    """A thing in a scene: its label, its pose and how many pixels carry its label."""

    label: int
    pose: Pose
    visible: int


@dataclass(frozen=True)
class Scene:
    """A drawn scene: image (H, W, 3) uint8, label (H, W) uint8, things back to front, stuff labels and a caption."""

    image: NDArray[np.uint8]
    label: LabelMap
    objects: tuple[DrawnThing, ...]
    stuff: tuple[int, ...]
    caption: str


@dataclass
class _Canvas:
    """What is painted on: colours (H, W, 3) float32, labels (H, W), and the owner of each pixel (-1 = stuff)."""

    colours: Array
    label: LabelMap
    owner: NDArray[np.int16]
    areas: list[int]


def _draw_stuff(rng: np.random.Generator, size: int, regions: int) -> tuple[Array, LabelMap]:
    """Cut the ground by wavy lines into regions and give each a texture."""
    names = [STUFF[i] for i in rng.permutation(len(STUFF))[:regions]]
    colours = TEXTURES[names[0]](rng, size, size)
    label = np.full((size, size), stuff_index(names[0]), np.uint8)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - np.float32(0.5)
    for name in names[1:]:
        angle = rng.uniform(0, 2 * np.pi)
        bend = window(rng, noise_bank(12, 12), size, size) - np.float32(0.5)
        line = (
            np.cos(angle) * y + np.sin(angle) * x - rng.uniform(-0.05, 0.22) + np.float32(rng.uniform(0, 0.25)) * bend
        )
        distance = line * size
        cover = np.clip(distance + 0.5, 0, 1).astype(np.float32)[..., None]
        colours = colours + cover * (TEXTURES[name](rng, size, size) - colours)
        label[distance > 0] = stuff_index(name)
    return colours.astype(np.float32), label


def _draw_pose(rng: np.random.Generator, thing: Thing, size: int) -> Pose:
    radius = rng.uniform(*_RADII)
    margin = 0.7 * radius
    centre_y, centre_x = rng.uniform(margin, size - margin, 2)
    turn = rng.uniform(-1, 1) * TURNS[thing.shape]
    return Pose(float(centre_y), float(centre_x), float(radius), float(turn), float(np.exp(rng.uniform(-0.16, 0.16))))


def _box(pose: Pose, size: int) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the part of the canvas that a thing may touch."""
    reach = REACH * pose.radius + 2
    top, left = max(int(pose.centre_y - reach), 0), max(int(pose.centre_x - reach), 0)
    return top, left, min(int(pose.centre_y + reach) + 1, size), min(int(pose.centre_x + reach) + 1, size)


def _fits(canvas: _Canvas, owner: NDArray[np.int16], inside: NDArray[np.bool_]) -> bool:
    """Whether painting the pixels `inside` leaves enough of every earlier thing in view."""
    if not inside.any():
        return False
    hidden = np.bincount(owner[inside] + 1, minlength=len(canvas.areas) + 1)[1:]
    for index, loss in enumerate(hidden):
        if loss and np.count_nonzero(canvas.owner == index) - loss < LEAST_VISIBLE * canvas.areas[index]:
            return False
    return True


def _cast_shadow(colours: Array, distance: Array, rng: np.random.Generator) -> None:
    """Darken the ground softly to one side of a thing, in place."""
    dy, dx = rng.integers(-3, 4, 2)
    rows = np.clip(np.arange(distance.shape[0]) - dy, 0, distance.shape[0] - 1)
    columns = np.clip(np.arange(distance.shape[1]) - dx, 0, distance.shape[1] - 1)
    shifted = distance[rows[:, None], columns]
    colours *= 1 - np.float32(0.45) * np.clip(0.5 - shifted / 4, 0, 1)[..., None]


def _paint(canvas: _Canvas, thing: Thing, pose: Pose, label: int, rng: np.random.Generator) -> bool:
    """Paint a thing if it fits; say whether it did."""
    top, left, bottom, right = _box(pose, canvas.label.shape[0])
    box = np.s_[top:bottom, left:right]
    y, x = local_axes(pose, top, left, bottom - top, right - left)
    distance = (DISTANCES[thing.shape](y, x) * pose.radius).astype(np.float32)
    inside = distance < 0
    if not _fits(canvas, canvas.owner[box], inside):
        return False
    colours = canvas.colours[box]
    _cast_shadow(colours, distance, rng)
    cover = np.clip(np.float32(0.5) - distance, 0, 1)[..., None]
    colours += cover * (surface(thing, pose, y, x, distance, rng=rng) - colours)
    canvas.label[box][inside] = label
    canvas.owner[box][inside] = len(canvas.areas)
    canvas.areas.append(int(inside.sum()))
    return True


def _develop(colours: Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Expose the picture: brightness, a cast, a fall of light across the frame, grain; to uint8."""
    size = colours.shape[0]
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    tilt = rng.uniform(-0.12, 0.12, 2).astype(np.float32)
    light = np.float32(rng.uniform(0.82, 1.12)) + tilt[0] * ramp[:, None] + tilt[1] * ramp[None, :]
    cast = rng.uniform(0.95, 1.05, 3).astype(np.float32)
    grain = rng.standard_normal(colours.shape, np.float32) * np.float32(rng.uniform(1, 7))
    return np.clip(colours * light[..., None] * cast + grain + 0.5, 0, 255).astype(np.uint8)


def draw_scene(
    seed: int | Sequence[int], *, size: int = 128, things: tuple[int, int] = (2, 6), stuff: tuple[int, int] = (1, 3)
) -> Scene:
    """Draw the scene of a seed, one number or several, at least 0; equal arguments give equal scenes, bit for bit.

    Args:
        size: Side of the square image in pixels, 48 to 256.
        things: Fewest and most things; a thing that finds no room is left out, the first always has room.
        stuff: Fewest and most regions of stuff, 1 to 12; a region that ends up wholly hidden is not named.
    """
    rng = np.random.default_rng(seed)
    colours, label = _draw_stuff(rng, size, int(rng.integers(stuff[0], stuff[1] + 1)))
    canvas = _Canvas(colours, label, np.full((size, size), -1, np.int16), [])
    drawn: list[tuple[int, Pose]] = []
    for _ in range(int(rng.integers(things[0], things[1] + 1))):
        index = int(rng.integers(len(THINGS)))
        for _attempt in range(_ATTEMPTS):
            pose = _draw_pose(rng, THINGS[index], size)
            if _paint(canvas, THINGS[index], pose, index, rng):
                drawn.append((index, pose))
                break
    visible = np.bincount(canvas.owner.ravel() + 1, minlength=len(drawn) + 1)[1:]
    objects = tuple(DrawnThing(index, pose, int(count)) for (index, pose), count in zip(drawn, visible, strict=True))
    grounds = tuple(int(i) for i in np.unique(canvas.label) if i >= len(THINGS))
    words = caption([CLASS_NAMES[item.label] for item in objects], [CLASS_NAMES[i] for i in grounds], rng)
    return Scene(_develop(canvas.colours, rng), canvas.label, objects, grounds, words)
