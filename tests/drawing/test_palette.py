import pytest

from cascade_clip.drawing.palette import CLASS_COLOURS, class_colours, distinct_colours, png_palette


@pytest.mark.parametrize("count", [0, 1, 256, 1000])
def test_colours_are_distinct_and_begin_with_the_listed_ones(count: int):
    colours = distinct_colours(count)
    assert len(set(colours)) == len(colours) == count
    assert colours[:256] == CLASS_COLOURS[:count]


def test_settled_colours_are_kept_and_not_given_to_others():
    first, second, third = distinct_colours(3)
    colours = class_colours(("sky", "road", "tree"), {"road": first, "elsewhere": (1, 2, 3)})
    assert colours == (second, first, third)


def test_png_palette_has_a_colour_an_index_and_black_for_no_class():
    assert png_palette(((1, 2, 3), (4, 5, 6))) == bytes((1, 2, 3, 4, 5, 6)) + bytes(762)
