import pytest
import torch

from cascade_clip.errors import UserError
from cascade_clip.evaluation.confusion import confusion_matrix


def test_rows_are_true_classes_and_ignored_pixels_are_left_out():
    label = torch.tensor([[0, 0, 1], [255, 2, 255]], dtype=torch.uint8)
    prediction = torch.tensor([[0, 2, 1], [1, 2, 0]], dtype=torch.uint8)
    matrix = confusion_matrix(prediction, label, 3)
    assert matrix.dtype == torch.int64
    assert matrix.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 1]]


def test_a_label_without_any_class_counts_nothing():
    label = torch.full((4, 5), 255, dtype=torch.uint8)
    assert confusion_matrix(torch.zeros(4, 5, dtype=torch.uint8), label, 7).sum() == 0


def test_counts_do_not_wrap_in_eight_bits():
    label = torch.full((300, 300), 200, dtype=torch.uint8)
    matrix = confusion_matrix(label, label, 201)
    assert matrix[200, 200] == 90000
    assert matrix.sum() == 90000


def test_a_class_outside_the_split_is_refused():
    label = torch.tensor([[0, 7]], dtype=torch.uint8)
    with pytest.raises(UserError, match=r"holds class 7, but the split has 3 classes \(0 to 2\)"):
        confusion_matrix(torch.zeros(1, 2, dtype=torch.uint8), label, 3)


def test_maps_of_different_sizes_are_refused():
    with pytest.raises(UserError, match="label is 2 x 1 pixels but its image is 3 x 1"):
        confusion_matrix(torch.zeros(1, 3, dtype=torch.uint8), torch.zeros(1, 2, dtype=torch.uint8), 3)
