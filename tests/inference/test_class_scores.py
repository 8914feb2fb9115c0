import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from cascade_clip.inference.class_scores import labels_from_scores


@pytest.mark.parametrize("seed", range(6))
def test_labels_are_those_of_pytorchs_resize_but_for_near_ties(seed: int):
    random = torch.Generator().manual_seed(seed)
    classes, height, width = (int(n) for n in torch.randint(1, 24, (3,), generator=random))
    size = tuple(int(n) for n in torch.randint(129, 260, (2,), generator=random))
    scores = torch.rand(classes, height, width, generator=random)
    ours = labels_from_scores(scores, size)
    whole = F.interpolate(scores[None], size=size, mode="bilinear", align_corners=False)[0]
    best, labels = whole.max(dim=0)
    torch.testing.assert_close(ours.scores, best, rtol=0, atol=5e-6)
    top_two = whole.topk(min(2, classes), dim=0).values
    decided = top_two[0] - top_two[-1] > 1e-5 if classes > 1 else torch.ones(size, dtype=torch.bool)
    assert decided.float().mean() > 0.99
    assert torch.equal(ours.labels.long()[decided], labels[decided])


@pytest.mark.parametrize("size", [(1, 200), (3, 3), (400, 300)])
def test_exact_ties_stay_ties_when_resized(size: tuple[int, int]):
    one = torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(0))
    assert (labels_from_scores(torch.cat([one - 1, one, one]), size).labels == 1).all()


def test_pixels_below_the_threshold_have_no_class():
    scores = torch.tensor([[[0.2, 0.6]], [[0.3, 0.1]]])
    assert labels_from_scores(scores, (1, 2), 0.3).labels.tolist() == [[1, 0]]
    labels, best = labels_from_scores(scores, (1, 2), 0.5)
    assert labels.tolist() == [[255, 0]]
    torch.testing.assert_close(best, torch.tensor([[0.3, 0.6]]))


@pytest.mark.parametrize(("classes", "dtype", "none"), [(255, torch.uint8, 255), (256, torch.int32, 65535)])
def test_eight_bits_hold_255_classes_and_the_value_of_none(classes: int, dtype: torch.dtype, none: int):
    scores = torch.arange(classes)[:, None, None] / classes
    for threshold, expected in ((0.5, classes - 1), (1.0, none)):
        labels = labels_from_scores(scores, (1, 1), threshold).labels
        assert (labels.dtype, labels.item()) == (dtype, expected)
