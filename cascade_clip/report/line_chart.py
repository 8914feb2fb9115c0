"""Curves as inline SVG, legible on light and dark paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cascade_clip.report.figures import hex_colour
from cascade_clip.report.palette import INK, Colour

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 28
"""Margins of the plot inside the picture."""
MOST_POINTS = 600
"""Longer curves are thinned evenly: more points than pixels show nothing more."""
FEW_POINTS = 30
"""Up to so many, each point is drawn and says its value on hover."""
WIDE_RANGE = 30.0
"""Positive values whose largest is so many times the smallest are drawn on a logarithmic scale."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, in the picture's units, and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Curve:
    """One drawn curve.

    Attributes:
        name: What it shows.
        colour: CSS colour.
        path: Points of an SVG polyline.
        dots: (x, y, what is said on hover); empty where the curve has many points.
        last: Its last value as people read it.
    """

    name: str
    colour: str
    path: str
    dots: tuple[tuple[float, float, str], ...]
    last: str


@dataclass(frozen=True)
class LineChart:
    """A chart that the template draws.

    Attributes:
        title: Its heading.
        summary: What a reader who cannot see it is told.
        curves: From the first in the legend on.
        x_ticks: Along the lower edge.
        y_ticks: Along the left edge.
        logarithmic: Whether the vertical scale is.
        size: Width and height.
        frame: Left, right, top and bottom of the plot.
    """

    title: str
    summary: str
    curves: tuple[Curve, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    logarithmic: bool
    size: tuple[int, int] = (WIDTH, HEIGHT)
    frame: tuple[int, int, int, int] = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM)


def line_chart(
    title: str, series: Mapping[str, Points], colours: Sequence[Colour], *, from_zero: bool = False
) -> LineChart | None:
    """Lay out curves over training steps.

    Args:
        title: Its heading.
        series: Points (step, value) by the name of the curve; what is not finite is left out.
        colours: One a curve.
        from_zero: The vertical axis starts at 0, and is never logarithmic.

    Returns:
        The chart, or None where no curve has a point.
    """
    finite = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()}
    shown = {name: _thinned(points) for name, points in finite.items() if points}
    if not shown:
        return None
    tones = {name: _css_colour(colour) for name, colour in zip(series, colours, strict=True)}
    values = [y for points in shown.values() for _, y in points]
    logarithmic = not from_zero and min(values) > 0 and max(values) > WIDE_RANGE * min(values)
    across = _linear(0.0, max(x for points in shown.values() for x, _ in points), (LEFT, WIDTH - RIGHT))
    up = (_logarithmic if logarithmic else _linear)(
        0.0 if from_zero else min(values), max(values), (HEIGHT - BOTTOM, TOP)
    )
    curves = tuple(_curve(name, tones[name], points, across, up) for name, points in shown.items())
    summary = "; ".join(f"{curve.name}: {_number(shown[curve.name][0][1])} to {curve.last}" for curve in curves)
    return LineChart(
        title=title,
        summary=f"{title}, first and last value. {summary}.",
        curves=curves,
        x_ticks=tuple(Tick(across(x), f"{x:,.0f}") for x in across.ticks if float(x).is_integer()),
        y_ticks=tuple(Tick(up(y), _number(y)) for y in up.ticks),
        logarithmic=logarithmic,
    )


def _css_colour(colour: Colour) -> str:
    """A colour of the palette; ink is the page's own, which is light on dark paper."""
    return "var(--ink)" if colour == INK else hex_colour(colour)


class _Scale:
    """Values to places between two edges, with round values in between."""

    def __init__(self, low: float, high: float, edges: tuple[int, int], ticks: Sequence[float], *, log: bool) -> None:
        self.low, self.high, self.edges, self.log = low, high, edges, log
        self.ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]

    def __call__(self, value: float) -> float:
        low, high, place = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        start, end = self.edges
        return round(start + (end - start) * (place - low) / (high - low), 1)


def _linear(low: float, high: float, edges: tuple[int, int]) -> _Scale:
    from matplotlib.ticker import MaxNLocator

    if high <= low:
        low, high = min(low, 0.0), max(high, 0.0) or 1.0
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    # An axis that starts at 0 ends with the data; another one at round values.
    low, high = (low, high) if low == 0 else (float(ticks[0]), float(ticks[-1]))
    return _Scale(low, high, edges, ticks, log=False)


def _logarithmic(low: float, high: float, edges: tuple[int, int]) -> _Scale:
    from matplotlib.ticker import LogLocator

    subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    ticks = LogLocator(subs=subs, numticks=8).tick_values(low, high)
    return _Scale(low, high, edges, [float(tick) for tick in ticks], log=True)


def _curve(name: str, colour: str, points: Points, across: _Scale, up: _Scale) -> Curve:
    places = [(across(x), up(y)) for x, y in points]
    dots = [(*place, f"{name}, step {x:,.0f}: {_number(y)}") for place, (x, y) in zip(places, points, strict=True)]
    return Curve(
        name=name,
        colour=colour,
        path=" ".join(f"{x},{y}" for x, y in places),
        dots=tuple(dots) if len(dots) <= FEW_POINTS else (),
        last=_number(points[-1][1], digits="#.3g"),
    )


def _thinned(points: Points) -> Points:
    stride = max(1, -(-len(points) // MOST_POINTS))
    kept = list(points[::stride])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _number(value: float, digits: str = ".3g") -> str:
    """A value with three digits that matter: "0.0012", "48.7", "1,200"; "#.3g" keeps zeros at the end."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return format(value, digits)
