import numpy as np
import pytest

from cascade_clip.report.overlay import LegendEntry, render_overlay

COLOURS = ((230, 60, 0), (0, 60, 230))
LEGEND = [LegendEntry("road", 0.5, COLOURS[0]), LegendEntry("sky", 0.5, COLOURS[1])]


def halves(height: int, width: int) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 1
    return labels


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((16, 16), (800, 800)),
        ((600, 900), (600, 900)),
        ((1, 1), (800, 800)),
        ((2, 900), (2, 900)),
        ((5000, 2500), (4096, 2048)),
    ],
)
def test_picture_size_and_place_of_the_legend(size: tuple[int, int], expected: tuple[int, int]):
    image = np.full((*size, 3), 128, np.uint8)
    height, width = expected
    overlay = render_overlay(image, halves(*size), COLOURS, LEGEND)
    if width >= 2 * height:
        assert overlay.width == width
        assert overlay.height > height
    else:
        assert overlay.height == height
        assert overlay.width > width


def test_pixels_take_the_colour_of_their_class_and_no_class_stays_grey():
    labels = halves(600, 900)
    labels[300:] = 255
    image = np.full((600, 900, 3), (90, 160, 40), np.uint8)
    overlay = np.array(render_overlay(image, labels, COLOURS, LEGEND)).astype(int)
    red, blue, grey = overlay[100, 100], overlay[100, 800], overlay[500, 100]
    assert red[0] > red[2] + 80
    assert blue[2] > blue[0] + 80
    assert grey[0] == grey[1] == grey[2]
    assert (overlay[100, 449:451] > red + 15).all(axis=-1).any()  # a light line between classes


def test_sixteen_bit_labels():
    labels = np.full((40, 40), 300, np.uint16)
    labels[:20] = 65535
    overlay = np.array(render_overlay(np.zeros((40, 40, 3), np.uint8), labels, [(0, 250, 0)] * 301, LEGEND)).astype(int)
    assert overlay[700, 400, 1] > overlay[700, 400, 0] + 80
    assert overlay[100, 400].tolist() == [0, 0, 0]
