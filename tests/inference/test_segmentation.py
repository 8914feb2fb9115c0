import numpy as np
import pytest

from cascade_clip.inference.segmentation import Segmentation


def test_summary_counts_pixels_and_averages_scores_largest_first():
    labels = np.array([[2, 2, 0], [2, 255, 0]], dtype=np.uint8)
    scores = np.array([[0.9, 0.7, 0.2], [0.8, 0.1, 0.4]], dtype=np.float32)
    summary = Segmentation(labels, scores, ("road", "sky", "tree")).summary()
    assert [(s.name, s.index, s.pixels) for s in summary] == [("tree", 2, 3), ("road", 0, 2)]
    assert [s.share for s in summary] == pytest.approx([3 / 6, 2 / 6])
    assert [s.mean_score for s in summary] == pytest.approx([0.8, 0.3])


def test_summary_of_many_rows_is_summed_over_blocks():
    labels = np.zeros((2500, 2), dtype=np.uint8)
    labels[2400:] = 1
    summary = Segmentation(labels, np.full(labels.shape, 0.5, np.float32), ("a", "b")).summary()
    assert [s.pixels for s in summary] == [4800, 200]
    assert summary[1].mean_score == pytest.approx(0.5)
