import numpy as np
import pytest

from cascade_clip.report.palette import class_colours, distinct_colours, png_palette


@pytest.mark.parametrize("count", [0, 1, 20, 171, 256, 1000])
def test_colours_are_distinct(count: int):
    colours = distinct_colours(count)
    assert len(set(colours)) == len(colours) == count
    assert all(0 <= value <= 255 for colour in colours for value in colour)


def test_fewer_classes_get_the_first_colours_of_the_same_sequence():
    assert distinct_colours(300)[:12] == distinct_colours(12)
    assert distinct_colours(2) == ((0, 114, 178), (230, 159, 0))


def test_the_colours_of_twenty_classes_lie_far_apart():
    colours = np.array(distinct_colours(20), dtype=float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1000 * np.eye(20)
    assert distances.min() > 25


def test_settled_colours_are_kept_and_not_given_to_others():
    first = distinct_colours(1)[0]
    colours = class_colours(("sky", "road", "tree"), {"road": first, "elsewhere": (1, 2, 3)})
    assert colours == (distinct_colours(3)[1], first, distinct_colours(3)[2])


def test_png_palette_has_a_colour_an_index_and_black_for_no_class():
    palette = png_palette(((1, 2, 3), (4, 5, 6)))
    assert len(palette) == 768
    assert palette[:6] == bytes((1, 2, 3, 4, 5, 6))
    assert palette[255 * 3 :] == bytes(3)
