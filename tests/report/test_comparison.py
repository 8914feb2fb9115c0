import numpy as np
from PIL import Image

from cascade_clip.report.palette import PAPER
from cascade_clip.report.picture_sheets import CELL_HEIGHT, HEADING, MARGIN, comparison_sheet


def test_captions_take_a_line_below_each_row():
    rows = [[Image.new("RGB", (40, 30), "red")], [Image.new("RGB", (40, 30), "blue")]]
    plain, captioned = comparison_sheet(["a"], rows), comparison_sheet(["a"], rows, ["first", "second " * 30])
    assert captioned.size == (plain.width, plain.height + 2 * HEADING)
    below = np.asarray(captioned)[HEADING + MARGIN + CELL_HEIGHT : HEADING + MARGIN + CELL_HEIGHT + HEADING]
    assert (below != PAPER).any()


def test_a_heading_wider_than_its_pictures_gets_its_room():
    narrow = [Image.new("RGB", (3, 300), "red")] * 2
    assert comparison_sheet(["prediction", "x"], [narrow]).width > comparison_sheet(["x", "x"], [narrow]).width
