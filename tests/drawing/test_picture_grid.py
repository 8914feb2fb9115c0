import numpy as np
import pytest
from PIL import Image

from cascade_clip.drawing.overlay import LegendEntry
from cascade_clip.drawing.palette import PAPER
from cascade_clip.drawing.picture_grid import CELL_HEIGHT, FONTS_A_WIDTH, MARGIN, SMALLEST_FONT, comparison_sheet


def test_captions_take_a_line_below_each_row():
    rows = [[Image.new("RGB", (40, 30), "red")], [Image.new("RGB", (40, 30), "blue")]]
    plain, captioned = comparison_sheet(["a"], rows), comparison_sheet(["a"], rows, [["first"], ["second " * 30]])
    line = round(1.5 * SMALLEST_FONT)
    assert captioned.size == (plain.width, plain.height + 2 * line)
    below = np.asarray(captioned)[line + MARGIN + CELL_HEIGHT : line + MARGIN + CELL_HEIGHT + line]
    assert (below != PAPER).any()
    assert comparison_sheet(["a long heading" * 9], rows).width > plain.width


@pytest.mark.parametrize("columns", [1, 6])
def test_text_is_legible_at_the_width_of_a_page_and_every_class_is_named(columns: int):
    row = [Image.new("RGB", (480, 360), "grey")] * columns
    legend = [LegendEntry(f"class {index}", None, (index, 0, 200)) for index in range(60)]
    plain, sheet = (comparison_sheet(["a"] * columns, [row], legends=legends) for legends in ([], [legend]))
    below = np.asarray(sheet)[plain.height :]
    assert all((below == (index, 0, 200)).all(axis=-1).any() for index in range(60))
    swatch_rows = np.flatnonzero((below == (0, 0, 200)).all(axis=-1).any(axis=1))
    assert swatch_rows.size >= max(SMALLEST_FONT, 480 * columns // FONTS_A_WIDTH)
