import numpy as np

from cascade_clip.report.picture_sheets import STATES, error_map, error_states

LABEL = np.array([[0, 1, 255, 255]], np.uint8)
PREDICTED = np.array([[0, 2, 0, 255]], np.uint8)


def test_pixels_are_right_wrong_or_ignored():
    names = [STATES[state][0] for state in error_states(LABEL, PREDICTED)[0]]
    assert names == ["right", "wrong", "ignored", "ignored"]


def test_each_state_is_drawn_in_its_colour():
    label, predicted = (np.repeat(np.repeat(labels, 40, 0), 40, 1) for labels in (LABEL, PREDICTED))
    image = np.full((*label.shape, 3), 128, np.uint8)
    drawn = np.asarray(error_map(image, label, predicted, (160, 40)))
    assert drawn.shape == (40, 160, 3)
    for place, (_, colour) in zip((20, 60, 120), STATES, strict=True):
        distances = [np.abs(drawn[20, place].astype(int) - other).sum() for _, other in STATES]
        assert STATES[int(np.argmin(distances))][1] == colour
