import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cascade_clip.drawing.palette import HIGHLIGHT, hex_colour
from cascade_clip.report.charts import chart_png, chart_svg, matrix_chart, printable, text_chart

TITLE = "{http://www.w3.org/2000/svg}title"


def matrix(values, rows=("a", "b"), columns=("a", "b"), **options):
    texts = [[str(value) for value in row] for row in values]
    about = {"texts": texts, "says": texts, "axes": ("row", "column"), "legend": {}}
    return matrix_chart(np.array(values), rows, columns, **about | options)


def cells(svg: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(svg).iter() if each.find(TITLE) is not None]


def test_every_cell_has_its_colour_and_says_its_value():
    drawn = cells(chart_svg(matrix([[0.0, 1.0], [-0.5, 1.5], [np.nan, 0.5]], rows="abc"), "", name="m"))
    assert [cell.findtext(TITLE) for cell in drawn] == ["0.0", "1.0", "-0.5", "1.5", "nan", "0.5"]
    low, high = "rgb(0, 34, 78)", "rgb(254, 232, 56)"
    assert [cell.get("fill") for cell in drawn] == [low, high, low, high, "var(--line)", "rgb(125, 124, 120)"]


def test_equal_long_and_unprintable_names_stay_apart_and_are_well_formed():
    names = ["twin", "twin", "x" * 300, "\x00\ud800\x1b]", "${ 7 }", "datum.value"]
    svg = chart_svg(matrix(np.eye(6), names, names), "\x00", name="m")
    texts = [each.text for each in ElementTree.fromstring(svg).iter() if each.tag.endswith("text")]
    assert texts.count("twin") == 4
    assert texts.count("���]") == 2
    assert texts.count("datum.value") == 2
    assert len(cells(svg)) == 36


def test_frames_are_drawn_and_ids_are_the_charts_own():
    svg = chart_svg(matrix(np.eye(2), frames=[(0, 1, HIGHLIGHT)], framed_row=(1, HIGHLIGHT)), "", name="mine")
    assert svg.count(f'stroke="{hex_colour(HIGHLIGHT)}"') == 2
    assert 'id="mine-' in svg
    assert "url(#mine-" in svg
    assert 'id="gradient' not in svg


@pytest.mark.parametrize("size", [1, 15, 41, 100])
def test_matrices_of_any_size_stay_within_a_page(size: int):
    spec = matrix(np.eye(size), ["name"] * size, ["name"] * size)
    assert Image.open(io.BytesIO(chart_png(spec))).width < 2 * 1150


def test_headings_are_no_formulas_and_are_broken_and_equal_charts_are_equal_files():
    first, second = (chart_png(text_chart(["a"]), "$\\frac{ " * 99, notes=["b"]) for _ in range(2))
    assert first == second
    assert Image.open(io.BytesIO(first)).width < 2 * 900


def test_printable_keeps_letters_of_every_script():
    assert printable("שלום é 中 $x$") == "שלום é 中 $x$"
    assert printable("a\n\u202eb") == "a��b"
