import io

import pytest
from PIL import Image

from cascade_clip.report.curves import MOST_DOTS, MOST_POINTS, curve_panels, curve_summary, curves_figure

TRAINING = [{"step": s, "loss": 40 / s, "focal": 30 / s, "ssim": 0.5, "lr": 1e-4 / s} for s in (1, 2, 3)]
VALIDATION = [
    {"step": 2, "validation": {"miou": 0.4, "miou_seen": 0.5, "miou_unseen": 0.25, "hiou": 1 / 3}},
    {"step": 3, "validation": {"miou": 0.5, "miou_seen": 0.6, "miou_unseen": None, "hiou": None}},
]


def panels(log) -> dict:
    return curve_panels(log, 300, 180)


def curves(spec) -> dict[str, list[tuple[float, float]]]:
    drawn: dict[str, list[tuple[float, float]]] = {}
    for row in spec["data"]["values"]:
        drawn.setdefault(row["curve"], []).append((row["step"], row["value"]))
    return drawn


def scale(spec) -> str:
    return spec["encoding"]["y"]["scale"].get("type", "linear")


def test_every_value_of_the_log_stands_at_its_step_and_the_last_in_the_legend():
    drawn = panels([*TRAINING, *VALIDATION])
    assert curves(drawn["Loss"]) == {
        "loss 13.3": [(1, 40), (2, 20), (3, 40 / 3)],
        "focal 10.0": [(1, 30), (2, 15), (3, 10)],
        "SSIM 0.500": [(1, 0.5), (2, 0.5), (3, 0.5)],
    }
    assert curves(drawn["Validation, %"]) == {
        "seen mIoU 60.0": [(2, 50), (3, 60)],
        "unseen mIoU 25.0": [(2, 25)],
        "hIoU 33.3": [(2, pytest.approx(100 / 3))],
    }
    dots = drawn["Validation, %"]["layer"][1]
    assert dots["data"]["values"][0]["says"] == "seen mIoU, step 2: 50.0"
    assert dots["mark"]["opacity"] == 1
    assert curve_summary(drawn["Learning rate"]) == "Learning rate over the steps, last values: learning rate 3.33e-05."


def test_a_fully_supervised_run_has_one_curve_of_all_classes():
    log = [{"step": 4, "validation": {"miou": 0.4, "miou_seen": 0.4, "miou_unseen": None, "hiou": None}}]
    assert curves(panels(log)["Validation, %"]) == {"mIoU 40.0": [(4, 40)]}


def test_losses_far_apart_have_a_logarithmic_axis():
    drawn = panels(TRAINING)
    assert scale(drawn["Loss"]) == "log"
    assert scale(drawn["Learning rate"]) == "linear"
    assert scale(panels([{"step": 1, "loss": 2, "focal": 1, "dice": 1}])["Loss"]) == "linear"


def test_values_that_are_not_finite_are_left_out_and_panels_without_values_too():
    drawn = panels([{"step": 1, "loss": float("nan"), "lr": 1.0}, {"step": 2, "loss": 3.0, "lr": None}, {"note": 1}])
    assert curves(drawn["Loss"]) == {"loss 3.00": [(2, 3)]}
    assert curves(drawn["Learning rate"]) == {"learning rate 1.00": [(1, 1)]}
    assert set(panels([]).values()) == {None}


def test_long_curves_are_thinned_and_keep_their_end():
    spec = panels([{"step": step, "loss": 1.0 + step} for step in range(10_001)])["Loss"]
    line, dots = spec["data"]["values"], spec["layer"][1]
    assert len(line) <= MOST_POINTS + 1
    assert len(dots["data"]["values"]) <= MOST_DOTS + 1
    assert line[-1]["step"] == dots["data"]["values"][-1]["step"] == 10_000
    assert dots["mark"]["opacity"] == 0


@pytest.mark.parametrize("log", [[], TRAINING, [*TRAINING, *VALIDATION], [{"step": 0, "loss": 0.0, "lr": 0.0}]])
def test_every_log_is_drawn_and_equal_logs_give_equal_pictures(log):
    first, second = (curves_figure(log, title="$x$") for _ in range(2))
    assert first == second
    assert Image.open(io.BytesIO(first)).width > 600
