import io

import pytest
from matplotlib.figure import Figure
from PIL import Image

from cascade_clip.report import curves
from cascade_clip.report.curves import curves_figure

TRAINING = [{"step": s, "loss": 40 / s, "focal": 30 / s, "ssim": 0.5, "lr": 1e-4 / s} for s in (1, 2, 3)]
VALIDATION = [
    {"step": 2, "validation": {"miou": 0.4, "miou_seen": 0.5, "miou_unseen": 0.25, "hiou": 1 / 3}},
    {"step": 3, "validation": {"miou": 0.5, "miou_seen": 0.6, "miou_unseen": None, "hiou": None}},
]


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch):
    """Draws a log and gives the figure instead of its picture."""

    def draw(log) -> Figure:
        drawn: list[Figure] = []
        monkeypatch.setattr(curves, "png_bytes", lambda figure: drawn.append(figure) or b"")
        curves_figure(log, title="mine")
        return drawn[0]

    return draw


def lines(figure: Figure, panel: int) -> dict[str, list[tuple[float, float]]]:
    axes = figure.axes[panel]
    return {line.get_label(): [tuple(point) for point in line.get_xydata()] for line in axes.lines}


def test_every_value_of_the_log_stands_at_its_step(figure):
    drawn = figure([*TRAINING, *VALIDATION])
    assert lines(drawn, 0).keys() == {"loss", "focal", "SSIM"}
    assert lines(drawn, 0)["loss"] == [(1, 40), (2, 20), (3, 40 / 3)]
    assert lines(drawn, 1) == {
        "seen mIoU": [(2, 50), (3, 60)],
        "unseen mIoU": [(2, 25)],
        "hIoU": [(2, pytest.approx(100 / 3))],
    }
    assert lines(drawn, 2)["learning rate"] == [(line["step"], line["lr"]) for line in TRAINING]
    assert drawn.get_suptitle() == "mine"


def test_a_fully_supervised_run_has_one_curve_of_all_classes(figure):
    drawn = figure([{"step": 4, "validation": {"miou": 0.4, "miou_seen": 0.4, "miou_unseen": None, "hiou": None}}])
    assert lines(drawn, 1) == {"mIoU": [(4, 40)]}


def test_losses_far_apart_have_a_logarithmic_axis(figure):
    assert figure(TRAINING).axes[0].get_yscale() == "log"
    assert figure([{"step": 1, "loss": 2, "focal": 1, "dice": 1, "lr": 1}]).axes[0].get_yscale() == "linear"


def test_panels_without_values_say_so(figure):
    texts = [[text.get_text() for text in axes.texts] for axes in figure([]).axes]
    assert texts == [["nothing logged yet"], ["not validated yet"], ["nothing logged yet"]]


def test_values_that_are_not_finite_are_left_out(figure):
    drawn = figure([{"step": 1, "loss": float("nan"), "lr": 1.0}, {"step": 2, "loss": 3.0, "lr": None}])
    assert lines(drawn, 0)["loss"] == [(2, 3)]
    assert lines(drawn, 2)["learning rate"] == [(1, 1)]


def test_equal_logs_give_equal_pictures():
    first, second = (curves_figure([*TRAINING, *VALIDATION], title="$x$") for _ in range(2))
    assert first == second
    assert Image.open(io.BytesIO(first)).width > 1000
