import math

import pytest

from cascade_clip.report.line_chart import HEIGHT, LEFT, MOST_POINTS, RIGHT, TOP, WIDTH, line_chart
from cascade_clip.report.palette import INK

BLUE = (0, 114, 178)


def places(path: str) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in path.split()]


def test_points_lie_where_their_values_say():
    chart = line_chart("score", {"a": [(0, 0.0), (50, 5.0), (100, 10.0)]}, [BLUE], from_zero=True)
    left, right, top, bottom = chart.frame
    assert (left, right, top) == (LEFT, WIDTH - RIGHT, TOP)
    assert places(chart.curves[0].path) == [(left, bottom), ((left + right) / 2, (top + bottom) / 2), (right, top)]
    assert chart.curves[0].dots[1][2] == "a, step 50: 5"
    assert {tick.label: tick.at for tick in chart.y_ticks}["10"] == top
    assert chart.summary == "score, first and last value. a: 0 to 10.0."


def test_a_wide_range_is_logarithmic():
    chart = line_chart("loss", {"a": [(0, 1000.0), (1, 10.0), (2, 0.1)]}, [BLUE])
    assert chart.logarithmic
    heights = [y for _, y in places(chart.curves[0].path)]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    assert not line_chart("loss", {"a": [(0, 2.0), (1, 1.0)]}, [BLUE]).logarithmic


def test_long_curves_are_thinned_and_keep_their_end():
    chart = line_chart("loss", {"a": [(step, 1.0 + step) for step in range(10_001)]}, [INK])
    curve = chart.curves[0]
    assert len(places(curve.path)) <= MOST_POINTS + 1
    assert places(curve.path)[-1][0] == WIDTH - RIGHT
    assert curve.dots == ()
    assert curve.colour == "var(--ink)"


@pytest.mark.parametrize("points", [[(10, 5.0)], [(0, 0.0)], [(5, 3.0), (10, 3.0)], [(1, -2.0), (2, -1.0)]])
def test_flat_and_single_values_stay_inside_the_frame(points: list[tuple[float, float]]):
    chart = line_chart("loss", {"a": points}, [BLUE])
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT for x, y in places(chart.curves[0].path))
    assert chart.y_ticks


def test_what_is_not_finite_is_left_out_and_nothing_is_no_chart():
    chart = line_chart("loss", {"a": [(1, math.nan)], "b": [(1, 1.0), (2, math.inf)]}, [BLUE, INK])
    assert [curve.name for curve in chart.curves] == ["b"]
    assert line_chart("loss", {"a": [(1, math.nan)]}, [BLUE]) is None
