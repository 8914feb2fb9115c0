"""Curves of a training run: loss terms, validation and learning rate over the steps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cascade_clip.drawing.palette import BOTH, FIRST_COLOURS, INK, PALE_INK, SEEN, UNSEEN, Colour, hex_colour
from cascade_clip.report.charts import Spec, chart_png, text_chart

Log = Sequence[Mapping[str, Any]]
"""Lines of metrics.jsonl: training lines with `step`, `loss`, its terms and `lr`; validation lines with `step` and
`validation`, fractions 0..1 or None. Lines that hold neither are passed over."""
Points = list[tuple[float, float]]

LOSSES = {"loss": INK, "focal": FIRST_COLOURS[0], "dice": FIRST_COLOURS[1], "SSIM": FIRST_COLOURS[1]}
"""Terms of the loss as readers know them, and their colours; the log names them in small letters."""
VALIDATION = {"seen mIoU": ("miou_seen", SEEN), "unseen mIoU": ("miou_unseen", UNSEEN), "hIoU": ("hiou", BOTH)}
"""Scores as readers know them, their names in the log, and their colours."""
DASHES = ([1, 0], [7, 3], [2, 2.5])
"""Strokes of a panel's curves, which tell them apart without colour too."""
WIDE_RANGE = 20
"""From this ratio of the largest to the smallest value of all terms on, the losses have a logarithmic axis."""
LEGEND = {"title": None, "orient": "bottom", "direction": "horizontal", "symbolType": "stroke", "columns": 3}
MOST_POINTS = 600
"""Longer curves are thinned evenly: more points than pixels show nothing more."""
MOST_DOTS = 30
"""So many points of a curve say their value on hover; where a curve has no more, they are drawn as dots."""
WIDE, HIGH = 620, 160
"""Size of a panel of the PNG, in pixels; in a page panels stand side by side and are narrower."""


def curves_figure(log: Log, *, title: str = "") -> bytes:
    """Draw what a run has logged so far as PNG with three panels; one without values says so."""
    panels = curve_panels(log, WIDE, HIGH)
    drawn = [spec or _empty_panel(heading) for heading, spec in panels.items()]
    apart = {"scale": {"color": "independent", "strokeDash": "independent"}}
    return chart_png({"vconcat": drawn, "spacing": 12, "resolve": apart}, title)


def curve_panels(log: Log, width: int, height: int) -> dict[str, Spec | None]:
    """The panels of a run, of a size in pixels, by their heading; None where the log holds no value for one."""
    scores = {name: (_points(log, key, "validation"), colour) for name, (key, colour) in VALIDATION.items()}
    if not scores["unseen mIoU"][0]:  # fully supervised: one figure over all classes
        scores = {"mIoU": (_points(log, "miou", "validation"), SEEN)}
    losses = {name: (_points(log, name.lower()), colour) for name, colour in LOSSES.items()}
    rates = {"learning rate": (_points(log, "lr"), FIRST_COLOURS[2])}
    values = [value for points, _ in losses.values() for _, value in points]
    wide = bool(values) and min(values) > 0 and max(values) > WIDE_RANGE * min(values)
    return {
        "Validation, %": _panel("Validation, %", scores, width, height),
        "Loss": _panel("Loss", losses, width, height, logarithmic=wide),
        "Learning rate": _panel("Learning rate", rates, width, height),
    }


def curve_summary(spec: Spec) -> str:
    """What a reader who cannot see a panel is told: each curve's last value."""
    names = spec["encoding"]["color"]["scale"]["domain"]
    return f"{spec['title']['text']} over the steps, last values: {', '.join(names)}."


def _panel(
    heading: str, curves: Mapping[str, tuple[Points, Colour]], width: int, height: int, *, logarithmic: bool = False
) -> Spec | None:
    drawn = {name: (points, colour) for name, (points, colour) in curves.items() if points}
    if not drawn:
        return None
    # The legend names each curve with its last value.
    labels = {name: f"{name} {_number(points[-1][1])}" for name, (points, _) in drawn.items()}
    rows, dots = (
        [
            {"curve": labels[name], "step": step, "value": value, "says": f"{name}, step {step:,.0f}: {_number(value)}"}
            for name, (points, _) in drawn.items()
            for step, value in _thinned(points, most)
        ]
        for most in (MOST_POINTS, MOST_DOTS)
    )
    few = all(len(points) <= MOST_DOTS for points, _ in drawn.values())
    dot = {"type": "circle", "size": 36 if few else 140, "opacity": 1 if few else 0}
    colours = {"domain": list(labels.values()), "range": [hex_colour(colour) for _, colour in drawn.values()]}
    strokes = {"domain": list(labels.values()), "range": DASHES[: len(labels)]}
    dashes = {"field": "curve", "type": "nominal", "scale": strokes, "legend": LEGEND}
    return {
        "title": {"text": heading + (", logarithmic" if logarithmic else ""), "fontSize": 12, "frame": "group"},
        "width": width,
        "height": height,
        "data": {"values": rows},
        "encoding": _encoding(colours, logarithmic=logarithmic),
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2, "aria": False}, "encoding": {"strokeDash": dashes}},
            {"data": {"values": dots}, "mark": dot, "encoding": {"description": {"field": "says"}}},
        ],
    }


def _encoding(colours: Spec, *, logarithmic: bool) -> Spec:
    """What the fields of the points are drawn as."""
    steps = {"domainMin": 0, "nice": False}
    values = {"type": "log", "nice": True} if logarithmic else {"zero": True}
    ticks: Spec = {"tickCount": 5, "format": ",~r", "labelColor": hex_colour(PALE_INK), "labelOverlap": True}
    across = {**ticks, "title": "step", "grid": False, "tickSize": 4}
    up = {**ticks, "title": None, "domain": False, "ticks": False}
    return {
        "x": {"field": "step", "type": "quantitative", "scale": steps, "axis": across},
        "y": {"field": "value", "type": "quantitative", "scale": values, "axis": up},
        "color": {"field": "curve", "type": "nominal", "scale": colours, "legend": LEGEND},
    }


def _empty_panel(heading: str) -> Spec:
    text = "not validated yet" if heading.startswith("Validation") else "nothing logged yet"
    return {**text_chart([text]), "title": {"text": heading, "fontSize": 12, "frame": "group"}}


def _points(log: Log, key: str, part: str | None = None) -> Points:
    """What the log says of one figure: (step, value) where it is a finite number; a validation's in percent."""
    points = []
    for line in log:
        value = (line if part is None else line.get(part, {})).get(key)
        if "step" in line and isinstance(value, int | float) and math.isfinite(value):
            points.append((line["step"], float(value) if part is None else 100 * value))
    return points


def _thinned(points: Points, most: int) -> Points:
    kept = points[:: max(1, -(-len(points) // most))]
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]


def _number(value: float) -> str:
    """A value with three digits that matter: "0.00120", "48.7", "1,200"."""
    return "0" if value == 0 else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}"
