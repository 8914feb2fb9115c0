import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cascade_clip.evaluation.details import most_confused
from cascade_clip.report import confusion_figure as room
from cascade_clip.report.confusion_figure import CLASSES_SHOWN, confusion_figure


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch):
    """Draws a matrix and gives the figure instead of its picture."""

    def draw(confusion, classes, unseen=()) -> Figure:
        drawn: list[Figure] = []
        monkeypatch.setattr(room, "png_bytes", lambda figure: drawn.append(figure) or b"")
        confusion_figure(confusion, classes, most_confused(confusion, classes, 20), unseen=unseen)
        return drawn[0]

    return draw


def test_rows_are_shares_of_the_true_class(figure):
    drawn = figure(np.array([[6, 2], [5, 15]]), ("small", "large"), unseen={"small"})
    matrix = drawn.axes[0]
    np.testing.assert_allclose(matrix.images[0].get_array(), [[0.75, 0.25], [0.25, 0.75]])
    assert [label.get_text() for label in matrix.get_yticklabels()] == ["large", "small *"]
    assert [label.get_text() for label in matrix.get_xticklabels()] == ["large", "small *"]
    assert [text.get_text() for text in drawn.axes[1].texts] == [
        "1.",
        "large → small *",
        "25.0 % of its pixels, 5",
        "2.",
        "small * → large",
        "25.0 % of its pixels, 2",
        "* unseen class",
    ]
    assert [patch.get_xy() for patch in matrix.patches] == [(0.5, -0.5), (-0.5, 0.5)]


def test_of_many_classes_the_largest_are_shown_and_the_rest_is_summed(figure):
    confusion = np.ones((40, 40), np.int64) + np.diag(np.arange(40) * 100)
    drawn = figure(confusion, [f"class {k}" for k in range(40)])
    shares = drawn.axes[0].images[0].get_array()
    assert shares.shape == (CLASSES_SHOWN, CLASSES_SHOWN + 1)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert drawn.axes[0].get_yticklabels()[0].get_text() == "class 39"
    assert drawn.axes[0].get_xticklabels()[-1].get_text() == "other classes"


def test_names_are_no_formulas_and_long_ones_are_shortened():
    names = ["$\\frac{$", "x" * 200]
    png = confusion_figure(
        np.array([[3, 1], [1, 3]]), names, most_confused([[3, 1], [1, 3]], names, 5), title="t " * 99
    )
    assert Image.open(io.BytesIO(png)).width < 3000


def test_a_perfect_result_says_that_nothing_is_confused(figure):
    drawn = figure(np.diag([3, 4]), ("a", "b"))
    assert drawn.axes[1].get_title(loc="left") == "nothing is confused"


def test_nothing_labelled_is_said(figure):
    assert figure(np.zeros((2, 2), np.int64), ("a", "b")).axes[0].get_title(loc="left") == "nothing is labelled"
