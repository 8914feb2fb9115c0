import numpy as np
import pytest
from PIL import Image, ImageFont

from cascade_clip.report.overlay import PAPER, LegendEntry, legend_below, legend_beside, percent, wrapped

FONT = ImageFont.load_default(18)
RED, GREEN = (250, 0, 0), (0, 250, 0)


def swatches(panel: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.array(panel) == colour).all(axis=-1).sum())


@pytest.mark.parametrize(
    ("share", "text"), [(0.3421, "34.2 %"), (0.0004, "< 0.1 %"), (0.0, "0.0 %"), (1.0, "100.0 %"), (0.0005, "0.1 %")]
)
def test_percent(share: float, text: str):
    assert percent(share) == text


def test_short_names_stay_on_one_line_and_long_ones_wrap_between_words():
    assert wrapped("road", 200, FONT, lines=2) == ["road"]
    lines = wrapped("traffic light pole", 110, FONT, lines=2)
    assert lines == ["traffic light", "pole"]
    assert wrapped("", 100, FONT, lines=2) == [""]


@pytest.mark.parametrize("name", ["word " * 30, "x" * 200])
@pytest.mark.parametrize("lines", [1, 2])
def test_names_without_end_are_shortened_to_the_width(name: str, lines: int):
    broken = wrapped(name, 150, FONT, lines=lines)
    assert len(broken) == lines
    assert broken[-1].endswith("…")
    assert all(FONT.getlength(line) <= 150 for line in broken)


def test_every_entry_is_beside_a_high_picture():
    panel = legend_beside([LegendEntry("road", 0.75, RED), LegendEntry("sky", 0.25, GREEN)], 400, 18)
    assert panel.height == 400
    assert panel.width < 350
    assert swatches(panel, RED) > 200
    assert swatches(panel, GREEN) > 200


def test_entries_that_do_not_fit_are_left_out_and_counted():
    entries = [LegendEntry(f"thing {i}", 0.01, (i, 0, 200)) for i in range(100)]
    panel = legend_beside(entries, 400, 18)
    shown = [i for i in range(100) if swatches(panel, (i, 0, 200))]
    assert shown == list(range(len(shown)))
    assert 5 < len(shown) < 20
    bottom = np.array(panel)[-20:]
    assert (bottom == PAPER).all()  # nothing is cut off by the border


def test_a_tiny_height_still_draws():
    assert legend_beside([LegendEntry("road", 1.0, RED)], 10, 18).height == 10
    assert legend_beside([], 100, 18).height == 100


@pytest.mark.parametrize("width", [80, 800, 3000])
def test_the_grid_below_has_the_width_of_the_picture(width: int):
    entries = [LegendEntry(f"a long name of thing {i}", 0.01, (i, 0, 200)) for i in range(100)]
    panel = legend_below(entries, width, 18)
    assert panel.width == width
    assert panel.height < 6 * 35 + 50
    assert swatches(panel, (0, 0, 200)) > 200


def test_a_line_without_a_swatch_shows_only_text():
    panel = np.array(legend_below([LegendEntry("no class", 0.5, None)], 400, 18))
    assert (panel != PAPER).any()
    assert np.abs(np.diff(panel.astype(int), axis=-1)).max() < 16  # greys only
