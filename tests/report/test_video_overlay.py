import numpy as np
import pytest

from cascade_clip.inference.segmentation import Segmentation
from cascade_clip.report.video_overlay import VideoOverlay

COLOURS = ((230, 60, 0), (0, 60, 230))
FRAME = np.full((240, 320, 3), 128, np.uint8)


def segmentation(labels: np.ndarray) -> Segmentation:
    return Segmentation(labels, np.ones(labels.shape, np.float32), ("road", "sky"))


def test_frames_keep_their_size_and_their_legend_changes_once_a_second():
    overlay, sky = VideoOverlay(COLOURS), segmentation(np.ones((240, 320), np.uint8))
    first, same_second, next_second = (
        overlay.paint(FRAME, segmentation(np.repeat([[0] * 160 + [1] * 160], 240, axis=0)), 0.0).astype(int),
        overlay.paint(FRAME, sky, 0.9),
        overlay.paint(FRAME, sky, 1.0),
    )
    assert first.shape == FRAME.shape
    assert first[10, 10, 0] > first[10, 10, 2] + 80
    assert first[10, 310, 2] > first[10, 310, 0] + 80
    paper = [(picture[-60:, :60].min(axis=-1) > 180).sum() for picture in (first, same_second, next_second)]
    assert paper[0] > 0.3 * 60 * 60
    assert paper[1] > paper[2] > 0


@pytest.mark.parametrize(("size", "label"), [((24, 32), 0), ((1, 200), 0), ((240, 320), 255)])
def test_tiny_frames_and_frames_without_a_class_have_no_legend(size: tuple[int, int], label: int):
    frame = np.full((*size, 3), 128, np.uint8)
    painted = VideoOverlay(COLOURS).paint(frame, segmentation(np.full(size, label, np.uint8)), 0.0)
    assert (painted == (128 if label else painted[0, 0])).all()
