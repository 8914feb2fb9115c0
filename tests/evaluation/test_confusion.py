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


def test_counts_do_not_wrap_in_eight_bits():
    label = torch.full((300, 300), 200, dtype=torch.uint8)
    matrix = confusion_matrix(label, label, 201)
    assert matrix[200, 200] == matrix.sum() == 90000


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([[0, 7, 255]], r"holds class 7, but the split has 3 classes \(0 to 2\)"),
        ([[0, 0]], "label is 2 x 1 pixels but its image is 3 x 1"),
    ],
)
def test_labels_that_do_not_fit(label: list[list[int]], message: str):
    with pytest.raises(UserError, match=message):
        confusion_matrix(torch.zeros(1, 3, dtype=torch.uint8), torch.tensor(label, dtype=torch.uint8), 3)
