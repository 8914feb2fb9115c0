import math

import pytest
from matplotlib.figure import Figure

from cascade_clip.evaluation.scores import Scores, scores_from_confusion
from cascade_clip.report import class_iou_figure as room
from cascade_clip.report.class_iou_figure import class_iou_figure


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch):
    """Draws scores and gives the figure instead of its picture."""

    def draw(scores: Scores) -> Figure:
        drawn: list[Figure] = []
        monkeypatch.setattr(room, "png_bytes", lambda figure: drawn.append(figure) or b"")
        class_iou_figure(scores)
        return drawn[0]

    return draw


def names(figure: Figure, panel: int = 0) -> list[str]:
    return [label.get_text() for label in figure.axes[panel].get_yticklabels()]


def test_classes_are_sorted_and_unseen_ones_marked(figure):
    scores = scores_from_confusion([[1, 1, 0], [0, 9, 0], [0, 0, 0]], (0, 2), (1,), ("a", "b", "c"))
    drawn = figure(scores)
    assert names(drawn) == ["b *", "a"]  # c occurs nowhere
    assert math.isnan(scores.iou[2])
    bars = drawn.axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([90, 50])
    assert [bar.get_hatch() for bar in bars] == ["////", None]
    assert bars[0].get_facecolor() != bars[1].get_facecolor()
    legend = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert legend == ["seen classes", "their mIoU, 50.0 %", "unseen classes *", "their mIoU, 90.0 %"]


def test_a_fully_supervised_result_has_one_kind(figure):
    drawn = figure(scores_from_confusion([[1, 1], [0, 2]], (0, 1), (), ("a", "b")))
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["classes", "their mIoU, 58.3 %"]


def test_many_classes_take_several_columns(figure):
    many = 100
    confusion = [[10 + i if i == j else 1 for j in range(many)] for i in range(many)]
    drawn = figure(scores_from_confusion(confusion, range(many), (), [str(i) for i in range(many)]))
    assert len(drawn.axes) == 2
    assert names(drawn, 0) + names(drawn, 1) == [str(i) for i in reversed(range(many))]


def test_nothing_labelled_can_be_drawn_too():
    assert class_iou_figure(scores_from_confusion([[0]], (0,), (), ("a",))).startswith(b"\x89PNG")
