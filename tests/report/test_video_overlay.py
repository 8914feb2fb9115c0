import numpy as np

from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.report.overlay import VideoOverlay

COLOURS = ((230, 60, 0), (0, 60, 230))
FRAME = np.full((240, 320, 3), 128, np.uint8)


def halves(left: int, size: tuple[int, int] = (240, 320)) -> Segmentation:
    labels = np.full(size, 1 - left, np.uint8)
    labels[:, : size[1] // 2] = left
    return Segmentation(labels, np.ones(size, np.float32), ("road", "sky"))


def test_frames_keep_their_size_and_take_the_classes_colours():
    painted = VideoOverlay(COLOURS).paint(FRAME, halves(0), 0.0).astype(int)
    assert painted.shape == FRAME.shape
    assert painted[10, 10, 0] > painted[10, 10, 2] + 80
    assert painted[10, 310, 2] > painted[10, 310, 0] + 80


def test_the_legend_stands_in_the_lower_left_and_changes_once_a_second():
    overlay = VideoOverlay(COLOURS)
    first = overlay.paint(FRAME, halves(0), 0.0)[-60:, :60].astype(int)
    same_second = overlay.paint(
        FRAME, Segmentation(np.ones((240, 320), np.uint8), np.ones((240, 320), "f4"), ("a", "b")), 0.9
    )
    next_second = overlay.paint(
        FRAME, Segmentation(np.ones((240, 320), np.uint8), np.ones((240, 320), "f4"), ("a", "b")), 1.0
    )
    assert (first.min(axis=-1) > 180).mean() > 0.3  # paper
    light = [(picture.min(axis=-1) > 180).sum() for picture in (same_second, next_second)]
    assert light[0] > light[1] > 0


def test_tiny_frames_and_frames_without_a_class_have_no_legend():
    tiny = VideoOverlay(COLOURS).paint(np.full((24, 32, 3), 128, np.uint8), halves(0, (24, 32)), 0.0)
    assert tiny.shape == (24, 32, 3)
    empty = Segmentation(np.full((240, 320), 255, np.uint8), np.zeros((240, 320), np.float32), ("road", "sky"))
    painted = VideoOverlay(COLOURS).paint(FRAME, empty, 0.0)
    np.testing.assert_array_equal(painted, FRAME)
