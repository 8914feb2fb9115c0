"""Charts as Vega-Lite specifications: one drawing of a view serves the PNG file and the page.

A page holds the drawn SVG, not the specification: every mark says its value on hover and to a screen reader, the
colours follow the page's light or dark theme, and neither printing nor a browser without scripts lacks anything.
"""

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any
from xml.etree import ElementTree

import numpy as np
import vl_convert
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from cascade_clip.drawing.palette import INK, PALE_INK, PAPER, SEQUENTIAL, Colour, hex_colour

Spec = dict[str, Any]
"""A Vega-Lite specification, or a part of one: https://vega.github.io/vega-lite/docs/spec.html."""
GRID, FRAME = "#e2e1dc", "#5f636b"
THEME = {
    hex_colour(INK): "var(--ink)",
    hex_colour(PALE_INK): "var(--pale)",
    hex_colour(PAPER): "var(--behind)",
    GRID: "var(--line)",
    FRAME: "var(--pale)",
}
"""Colours that a page replaces by its own, which are light on dark paper."""
PNG_SCALE = 2
LONGEST_LINE = 90
LINE = 22
LARGE_CELLS = 14
"""A matrix with up to so many rows and columns has cells for four digits."""
CELLS = ((LARGE_CELLS, 40, 10.5), (26, 27, 9), (42, 18, 8))
"""Most rows or columns, side of a cell in pixels, font of its value; in larger matrices values are not written."""
LARGEST_MATRIX = 840
_SVG = "http://www.w3.org/2000/svg"
_AXIS = {"aria": False, "domainColor": FRAME, "tickColor": FRAME, "gridColor": GRID, "labelColor": hex_colour(INK)}
_LEGEND = {"labelLimit": 400, "titleLimit": 400, "titleFontWeight": "normal"}
_CONFIG = {
    "font": "DejaVu Sans, sans-serif",
    "view": {"stroke": None},
    "axis": {**_AXIS, "titleColor": hex_colour(PALE_INK), "titleFontWeight": "normal", "labelFontSize": 11},
    "legend": {"aria": False, "labelColor": hex_colour(INK), "titleColor": hex_colour(PALE_INK), **_LEGEND},
    "title": {"aria": False, "anchor": "start", "color": hex_colour(INK), "subtitleColor": hex_colour(PALE_INK)},
    "text": {"color": hex_colour(INK)},
    "line": {"strokeCap": "round", "strokeJoin": "round"},
}


def chart_png(spec: Spec, title: str = "", *, notes: Sequence[str] = ()) -> bytes:
    """Draw a chart as PNG under its title, broken into lines, and notes; equal charts give equal bytes."""
    text = {"text": wrap(printable(title), LONGEST_LINE), "subtitle": list(notes)}
    heading = {**text, "fontSize": 13, "offset": 14, "subtitlePadding": 5}
    whole = {"title": heading, **spec, "background": hex_colour(PAPER), "padding": 14, "config": _CONFIG}
    drawn = Image.open(io.BytesIO(vl_convert.vegalite_to_png(json.dumps(whole, allow_nan=False), scale=PNG_SCALE)))
    png = io.BytesIO()
    # The renderer hardly compresses: this is a quarter of the size.
    drawn.convert("RGB").save(png, "PNG")
    return png.getvalue()


def chart_svg(spec: Spec, summary: str, *, name: str) -> Markup:
    """Draw a chart as an `svg` element of a page, in the colours of its theme; marks say their description on hover.

    A reader who cannot see it is told the `summary`; `name` are letters that no other chart of the page has, for ids.
    """
    drawn = vl_convert.vegalite_to_svg(json.dumps({**spec, "background": None, "config": _CONFIG}, allow_nan=False))
    svg = ElementTree.fromstring(drawn)
    for element in svg.iter():
        _theme(element, name)
        _describe(element)
    width, columns = float(svg.get("width", 0)), spec.get("usermeta", {}).get("columns")
    svg.set("role", "group" if columns else "img")
    svg.set("aria-label", printable(summary))
    svg.set("style", f"min-width:{min(width, max(300, 0.6 * width)):.0f}px")
    if columns:
        svg.set("data-columns", str(columns))
    ElementTree.register_namespace("", _SVG)
    # Every text and attribute was escaped when it was written.
    return Markup(ElementTree.tostring(svg, encoding="unicode"))


def _theme(element: ElementTree.Element, name: str) -> None:
    """Give an element the page's colours, and an id that no other chart has."""
    for key in ("fill", "stroke"):
        if colour := element.get(key):
            element.set(key, THEME.get(colour, colour.replace("url(#", f"url(#{name}-")))
    if identity := element.get("id"):
        element.set("id", f"{name}-{identity}")


def _describe(element: ElementTree.Element) -> None:
    """Turn a mark's description into a title, which browsers show on hover; drop the names of groups of marks."""
    said = element.attrib.pop("aria-label", None)
    element.attrib.pop("aria-roledescription", None)
    element.attrib.pop("role", None)
    if said and not len(element):
        element.set("role", "img")
        ElementTree.SubElement(element, f"{{{_SVG}}}title").text = said


def text_chart(lines: Sequence[str]) -> Spec:
    """Lines of printable text, as a chart that can stand beside others."""
    place = {"align": "left", "baseline": "top", "x": 0, "y": 0}
    mark = {"type": "text", "text": list(lines), "fontSize": 12, "lineHeight": LINE, **place}
    return {"width": 400, "height": LINE * len(lines), "data": {"values": [{}]}, "mark": mark}


def printable(text: str) -> str:
    """A text as pictures and XML can hold it: control characters, lone surrogates and the like become "�"."""
    return "".join(character if character.isprintable() else "�" for character in text)


def isolated(name: str) -> str:
    """A name inside a sentence: one that is written from right to left turns nothing around it."""
    return f"\u2068{printable(name)}\u2069"


def names_axis(names: Sequence[str], **options: Any) -> Spec:
    """An axis over positions 0..n-1 that shows a name at each; equal names stay apart, long ones are cut off."""
    labels = json.dumps([printable(name) for name in names])
    options = {"labelLimit": 160, "domain": False, "ticks": False, "title": None, "labelPadding": 6, **options}
    return {"labelExpr": f"{labels}[datum.value]", "labelOverlap": False, **options}


def matrix_chart(
    values: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    texts: Sequence[Sequence[str]],
    says: Sequence[Sequence[str]],
    axes: tuple[str, str],
    legend: Mapping[str, Any],
    frames: Iterable[tuple[int, int, Colour]] = (),
    framed_row: tuple[int, Colour] | None = None,
) -> Spec:
    """Draw a matrix (R, C) with the one colour scale of every figure, from 0 to 1, by the names of its rows and
    columns.

    What lies outside 0..1 takes the colour of the end, NaN is left grey. `texts` are the values as people read them,
    written into cells that are large enough; `says` the same with the names of row and column, for hover and screen
    readers; `axes` what rows and columns are. Cells of `frames` (row, column) and a whole row get a frame of a colour.
    """
    side, font = _cell_size(len(rows), len(columns))
    cells = [
        {"row": i, "column": j, "value": _in_range(value), "text": texts[i][j], "says": says[i][j]}
        for (i, j), value in np.ndenumerate(values)
    ]
    colour = {
        "condition": {"test": "datum.value === null", "value": GRID},
        "field": "value",
        "type": "quantitative",
        "scale": {"domain": [0, 1], "range": [hex_colour(one) for one in SEQUENTIAL], "interpolate": "rgb"},
        "legend": {"orient": "bottom", "gradientLength": 160, "gradientThickness": 9, "values": [0, 0.5, 1], **legend},
    }
    ink = {"condition": {"test": "datum.value === null || datum.value > 0.55", "value": "#000"}, "value": "#fff"}
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "invalid": None, "stroke": hex_colour(PAPER), "strokeWidth": 0.8},
            "encoding": {"color": colour, "description": {"field": "says"}},
        }
    ]
    if font:
        text = {"text": {"field": "text"}, "color": ink}
        layers.append({"mark": {"type": "text", "fontSize": font, "aria": False}, "encoding": text})
    for i, j, tone in frames:
        layers.append({"data": {"values": [{"row": i, "column": j}]}, "mark": _frame_mark(tone, 1.6)})
    if framed_row:
        whole = {"x": {"value": 0}, "x2": {"value": side * len(columns)}}
        row = {"data": {"values": [{"row": framed_row[0]}]}, "mark": _frame_mark(framed_row[1], 2.4)}
        layers.append({**row, "encoding": whole})
    turned = any(len(name) * font > 1.5 * side for name in columns) or not font
    angle = {"labelAngle": -60 if turned else 0, "labelAlign": "right" if turned else "center"}
    return {
        "usermeta": {"columns": len(columns)},  # for the page, whose arrow keys go from cell to cell
        "data": {"values": cells},
        "width": {"step": side},
        "height": {"step": side},
        "encoding": {
            "x": _position("column", columns, title=axes[1], **angle),
            "y": _position("row", rows, title=axes[0]),
        },
        "layer": layers,
    }


def _cell_size(rows: int, columns: int) -> tuple[float, float]:
    """Side of a matrix's cell in pixels, and the font of its value; 0: the cell is too small for it."""
    longest = max(rows, columns, 1)
    return next(((side, font) for most, side, font in CELLS if longest <= most), (LARGEST_MATRIX / longest, 0))


def _position(field: str, names: Sequence[str], **options: Any) -> Spec:
    scale = {"domain": list(range(len(names))), "padding": 0}
    axis = names_axis(names, titlePadding=8, labelLimit=140, **options)
    return {"field": field, "type": "ordinal", "scale": scale, "axis": axis}


def _frame_mark(colour: Colour, width: float) -> Spec:
    return {"type": "rect", "filled": False, "stroke": hex_colour(colour), "strokeWidth": width, "aria": False}


def _in_range(value: float) -> float | None:
    return None if math.isnan(value) else min(max(float(value), 0.0), 1.0)
