import numpy as np
import pytest
from PIL import Image, ImageFont

from cascade_clip.drawing.overlay import (
    CELL_HEIGHT,
    FONTS_A_WIDTH,
    MARGIN,
    SMALLEST_FONT,
    LegendEntry,
    comparison_sheet,
    legend_below,
    legend_beside,
    percent,
    render_overlay,
    wrapped,
)
from cascade_clip.drawing.palette import PAPER

FONT = ImageFont.load_default(18)
COLOURS = RED, BLUE = ((230, 60, 0), (0, 60, 230))
LEGEND = [LegendEntry("road", 0.75, RED), LegendEntry("sky", 0.25, BLUE)]
THINGS = [LegendEntry(f"a long name of thing {i}", 0.01, (i, 0, 200)) for i in range(100)]
FRAME = np.full((240, 320, 3), 128, np.uint8)


def halves(height: int, width: int) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 1
    return labels


def swatches(panel: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.array(panel) == colour).all(axis=-1).sum())


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 1), (800, 800)), ((600, 900), (600, 900)), ((2, 900), (2, 900)), ((5000, 2500), (4096, 2048))],
)
def test_the_legend_is_beside_the_picture_and_below_a_wide_one(size: tuple[int, int], expected: tuple[int, int]):
    overlay = render_overlay(np.full((*size, 3), 128, np.uint8), halves(*size), COLOURS, LEGEND)
    height, width = expected
    below = width >= 2 * height
    assert (overlay.width == width, overlay.height == height) == (below, not below)
    assert overlay.width >= width
    assert overlay.height >= height


@pytest.mark.parametrize(("dtype", "first"), [(np.uint8, 0), (np.uint16, 300)])
def test_pixels_take_the_colour_of_their_class_and_no_class_stays_grey(dtype: type, first: int):
    labels = halves(600, 900).astype(dtype) + dtype(first)
    labels[300:] = np.iinfo(dtype).max
    image = np.full((600, 900, 3), (90, 160, 40), np.uint8)
    overlay = np.array(render_overlay(image, labels, [(0, 250, 0)] * first + [RED, BLUE], LEGEND)).astype(int)
    red, blue, grey = overlay[100, 100], overlay[100, 800], overlay[500, 100]
    assert red[0] > red[2] + 80
    assert blue[2] > blue[0] + 80
    assert grey[0] == grey[1] == grey[2]
    assert (overlay[100, 449:451] > red + 15).all(axis=-1).any()  # a light line between classes


def test_percent():
    assert [percent(share) for share in (0.3421, 0.0005, 0.0004, 0.0)] == ["34.2 %", "0.1 %", "< 0.1 %", "0.0 %"]


def test_names_wrap_between_words():
    assert wrapped("traffic light pole", 110, FONT, lines=2) == ["traffic light", "pole"]
    assert wrapped("", 110, FONT, lines=2) == [""]


@pytest.mark.parametrize("name", ["word " * 30, "x" * 200])
@pytest.mark.parametrize("lines", [1, 2])
def test_names_without_end_are_shortened_to_the_width(name: str, lines: int):
    broken = wrapped(name, 150, FONT, lines=lines)
    assert len(broken) == lines
    assert broken[-1].endswith("…")
    assert all(FONT.getlength(line) <= 150 for line in broken)


def test_entries_that_do_not_fit_are_left_out_and_counted():
    panel = legend_beside(THINGS, 400, 18)
    shown = [i for i in range(100) if swatches(panel, (i, 0, 200))]
    assert shown == list(range(len(shown)))
    assert 3 < len(shown) < 20
    assert (np.array(panel)[-20:] == PAPER).all()  # nothing is cut off by the border


@pytest.mark.parametrize(("entries", "height"), [(LEGEND, 10), ([], 100), (LEGEND, 400)])
def test_a_legend_beside_has_the_height_of_the_picture(entries: list[LegendEntry], height: int):
    panel = legend_beside(entries, height, 18)
    assert panel.height == height
    assert all((swatches(panel, colour) > 200) == (height == 400) for colour in COLOURS)


@pytest.mark.parametrize("width", [80, 800, 3000])
def test_a_legend_below_has_the_width_of_the_picture(width: int):
    panel = legend_below(THINGS, width, 18)
    assert panel.width == width
    assert panel.height < 6 * 35 + 50
    assert swatches(panel, (0, 0, 200)) > 200


def test_captions_take_a_line_below_each_row():
    rows = [[Image.new("RGB", (40, 30), "red")], [Image.new("RGB", (40, 30), "blue")]]
    plain, captioned = comparison_sheet(["a"], rows), comparison_sheet(["a"], rows, [["first"], ["second " * 40]])
    line = round(1.5 * SMALLEST_FONT)
    # The long caption takes a second line, which ends in an ellipsis.
    assert captioned.size == (plain.width, plain.height + 3 * line)
    assert comparison_sheet([""], rows).size == (plain.width, plain.height - line)
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
