"""Colours of classes (deterministic, distinct, apart for colour-blind readers too) and of paper and ink."""

from collections.abc import Mapping, Sequence
from itertools import count, islice

import numpy as np

from cascade_clip.data.class_list_file import Colour as Colour  # noqa: PLC0414  (palettes are given and taken in it)

PAPER: Colour = (250, 250, 248)
INK: Colour = (32, 34, 38)
PALE_INK: Colour = (112, 116, 124)
_CLASSES = """
0072b2 e69f00 009e73 cc79a7 56b4e9 d55e00 f0e442 882255 aae178 ffb0be 1414cc 7a2814 6666f5 2828a3 e12851 8f147a
668ff5 1414f5 f5e1b8 f5ccf5 51663d 3d51b8 a3b87a 1451f5 8f5114 f5a351 8f667a 51288f a3518f a33da3 b87a3d 3d3dcc
662828 14b8cc f57a8f cc51e1 a3f5e1 3dcc51 a3e18f f5e166 8fb8a3 3d518f 147acc 3d51cc 143df5 143d66 515166 f57acc
f58ff5 f5e114 8f3d51 28a366 2828cc cccc3d 7a143d cc8f14 b8cca3 1414e1 f5513d e1cc14 f56666 cc1414 3da3cc 3d7ae1
28e1e1 b8143d 14e1cc 51a38f 1428b8 288f28 667a51 5151e1 b866a3 f5518f 14b866 8f517a ccf58f 148fb8 e128b8 a3b8e1
66147a a32828 66cc66 14517a 8f6666 513d51 e18fb8 8f288f e166f5 e18f3d f5e1a3 8f5166 518f51 e166b8 7a1466 e1a38f
518f7a a328e1 e17ae1 7a28a3 283db8 f5ccb8 b851cc e1b8f5 3db83d 515128 b83df5 f58fa3 6628e1 8ff5cc 51513d 7accb8
f514e1 e15151 b86628 cc518f 3d66b8 b8cc7a f5cc8f cccccc f5e1f5 1428e1 e1e151 2828f5 e1b88f 7a3dcc a3147a 3d6628
b8b828 7a518f 3d6666 cccce1 a3a37a 3d3d3d 7a51cc f58f51 28e166 e1b814 a366f5 b88f51 286651 ccf57a f5e1cc 148f14
8f66cc 6628b8 b814b8 8ff5a3 e17aa3 66e13d a3a3b8 8f66a3 7a3da3 a3f566 8fa314 513da3 b8e128 a3f514 513d14 5166a3
8f8fb8 e1a37a a3e1f5 f5a3b8 a38f7a f566cc 283de1 b8b8cc 3d3d28 28e151 cc5114 5128a3 f5b8a3 a3e1b8 b87af5 f5668f
518f66 663d7a 148f8f f5e1e1 51b8f5 5114a3 663df5 e1cc66 14e1a3 7a7a3d b8a328 cc6666 a366e1 3d66e1 a3f53d 3d7af5
668f3d b8148f b8cc28 e1283d cc3da3 b82828 e1cc51 66283d 8fccf5 662866 b83de1 a3f5f5 e1b866 7a7aa3 a3a33d b81451
f5cc7a 7a1428 b88fa3 7acce1 51cccc b8e1e1 665114 28667a b8e1cc b8b83d 5114cc ccf551 8fb814 7a7a7a 66288f 1466f5
b828a3 8f66b8 66cc8f a32866 51b828 b8e1a3 7a5128 b88fe1 b8a3f5 14f551 5128cc b87a28 3da328 cc1466 cca351 a3f5b8
cc143d 7a6628 e1b8e1 8fcc14 14a3e1 f5517a 7a14b8 b88f28 146614 14cc7a 3de17a a38f66 8f8f14 e1b8cc f55114 e1e18f
"""
# Beyond the listed colours an odd stride visits each of the 2^24 colours once.
_STRIDE = 0x9E3779


def _colour(value: int) -> Colour:
    return value >> 16, value >> 8 & 255, value & 255


CLASS_COLOURS: tuple[Colour, ...] = tuple(_colour(int(code, 16)) for code in _CLASSES.split())
"""256 colours. The first seven are the palette of Okabe and Ito (2008) without its black; four more were picked to go
with them. Each further one is the colour farthest in CIELAB from all before it, as seen by the reader who finds it
hardest: with normal, red-blind or green-blind sight (simulated after Viénot, Brettel and Mollon, 1999). None is close
to black, which means no class, or to white, which means paper."""
FIRST_COLOURS = CLASS_COLOURS[:11]
_CIVIDIS = (0x00224E, 0x1A386F, 0x434E6C, 0x61656F, 0x7D7C78, 0x9B9476, 0xBCAE6C, 0xDEC958, 0xFEE838)
SEQUENTIAL: tuple[Colour, ...] = tuple(_colour(code) for code in _CIVIDIS)
"""Nine even steps of the colour map cividis (Nuñez, Anderton and Renslow, 2018), for values from low to high: made to
look alike to readers with and without red-green blindness."""
SEEN, UNSEEN, BOTH = FIRST_COLOURS[0], FIRST_COLOURS[5], FIRST_COLOURS[2]
"""Colours of figures of seen classes, of unseen classes, and of their harmonic mean, everywhere."""
RIGHT, WRONG, NOT_COUNTED = (86, 180, 233), (213, 94, 0), (190, 192, 196)
"""Colours of an error map: right pixels, wrong ones, and those that do not count."""
HIGHLIGHT = FIRST_COLOURS[5]


def class_colours(classes: Sequence[str], known: Mapping[str, Colour] | None = None) -> tuple[Colour, ...]:
    """Give each of K classes a colour: its own, where it is known by name, else one of `distinct_colours`."""
    settled = known or {}
    taken = {settled[name] for name in classes if name in settled}
    spare = (colour for colour in distinct_colours(len(classes) + len(taken)) if colour not in taken)
    return tuple(settled[name] if name in settled else next(spare) for name in classes)


def distinct_colours(number: int) -> tuple[Colour, ...]:
    """The first `number` colours of one fixed sequence; no two are equal. It begins with `CLASS_COLOURS`."""
    steps = (_colour(_STRIDE * step % 2**24) for step in count(1))
    further = (colour for colour in steps if colour not in CLASS_COLOURS)
    return (*CLASS_COLOURS[:number], *islice(further, max(0, number - len(CLASS_COLOURS))))


def png_palette(colours: Sequence[Colour]) -> bytes:
    """The 768 palette bytes of an indexed PNG: the classes' colours, then black, also for 255 (no class)."""
    return bytes(value for colour in colours for value in colour).ljust(768, b"\0")


def sequential_colour(value: float) -> Colour:
    """Colour of a value in 0..1 on the scale `SEQUENTIAL`; what lies outside takes the colour of the end."""
    steps = np.linspace(0, 1, len(SEQUENTIAL))
    red, green, blue = (round(float(np.interp(value, steps, channel))) for channel in zip(*SEQUENTIAL, strict=True))
    return red, green, blue


def hex_colour(colour: Colour) -> str:
    """A colour as CSS takes it: "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
