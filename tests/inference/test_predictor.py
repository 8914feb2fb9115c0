import resource

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import DataConfig, InferenceConfig
from cascade_clip.errors import UserError
from cascade_clip.inference.predictor import images_together, label_image, label_maps, prepare_image, segment_image


class Brightest(torch.nn.Module):
    """The class whose row of the text is nearest to the patch's colour."""

    patch_size = 4

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return 8 * torch.einsum("bchw,kc->bkhw", F.avg_pool2d(image, 4), text)


DATA = DataConfig(short_side=32, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
INFERENCE = InferenceConfig(crop=32, stride=24, seen_bias=0.1)
CPU = torch.device("cpu")


def halves(height: int, width: int) -> np.ndarray:
    """Red on the left, blue on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    image[:, width // 2 :, 2] = 255
    return image


@pytest.mark.parametrize(("height", "width"), [(64, 128), (33, 57), (8, 16), (200, 40)])
def test_labels_have_the_size_of_the_image(height: int, width: int):
    text = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    seen = torch.tensor([True, True, True])
    result = segment_image(
        Brightest(), halves(height, width), text, seen, DATA, INFERENCE, CPU, classes=("blue", "red", "green")
    )
    assert result.labels.shape == result.scores.shape == (height, width)
    assert (result.labels.dtype, result.scores.dtype) == (np.uint8, np.float32)
    assert (result.labels[:, : width // 4] == 1).all()
    assert (result.labels[:, -(width // 4) :] == 0).all()
    assert [share.name for share in result.summary()][-1] in {"red", "blue"}


def test_threshold_and_default_class_names():
    text = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    result = segment_image(
        Brightest(), halves(32, 64), text, torch.tensor([False, True]), DATA, INFERENCE, CPU, threshold=0.95
    )
    assert result.classes == ("class 0", "class 1")
    assert (result.labels[:, 40:] == 0).all()
    assert (result.labels[:, :24] == result.no_class).all()  # sigmoid(8) - 0.1 is below 0.95


def test_more_than_255_classes_are_labelled_in_16_bits():
    text = torch.zeros(300, 3)
    text[280, 2] = 1.0
    result = segment_image(Brightest(), halves(8, 8), text, torch.zeros(300, dtype=torch.bool), DATA, INFERENCE, CPU)
    assert result.labels.dtype == np.uint16
    assert result.labels[4, 7] == 280


def test_the_image_is_resized_to_the_short_side_and_normalised():
    prepared = prepare_image(np.full((10, 20, 3), 255, np.uint8), DATA)
    assert prepared.shape == (3, 32, 64)
    assert (prepared == 1.0).all()


def test_an_extremely_narrow_image_is_refused():
    with pytest.raises(UserError, match=r"200000 x 1 pixels.*6400000.*30 classes do not fit"):
        segment_image(
            Brightest(),
            np.zeros((1, 200000, 3), np.uint8),
            torch.zeros(30, 3),
            torch.zeros(30, dtype=torch.bool),
            DATA,
            INFERENCE,
            CPU,
        )


class Counted(Brightest):
    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(image))
        return super().forward(image, text)


def test_windows_of_several_images_share_batches_and_give_the_same_labels():
    text, seen = torch.eye(3), torch.tensor([True, False, True])
    images = [halves(64, 100), halves(40, 90), halves(32, 32), halves(20, 64)]
    how = {"data": DATA, "inference": INFERENCE.model_copy(update={"window_batch": 3}), "device": CPU}
    network = Counted()
    maps = list(label_maps(network, iter(images), text, seen, together=4, **how))
    assert network.batches == [3, 3, 3, 1]  # 2, 3, 1 and 4 windows of one size
    for image, labels in zip(images, maps, strict=True):
        assert torch.equal(labels, label_image(Brightest(), image, text, seen, **how).labels)


def test_windows_of_other_sizes_have_their_own_batches():
    small = DATA.model_copy(update={"short_side": 16})
    images = [halves(16, 16), halves(16, 20), halves(16, 20), halves(16, 16)]
    network = Counted()
    how = {"data": small, "inference": INFERENCE, "device": CPU}
    maps = list(label_maps(network, images, torch.eye(3), torch.zeros(3, dtype=torch.bool), together=4, **how))
    assert network.batches == [1, 2, 1]
    assert [tuple(labels.shape) for labels in maps] == [(16, 16), (16, 20), (16, 20), (16, 16)]


def test_images_keep_to_themselves_on_a_cpu():
    network = Counted()
    how = {"data": DATA, "inference": INFERENCE, "device": CPU}
    maps = label_maps(network, [halves(32, 32)] * 3, torch.eye(3), torch.zeros(3, dtype=torch.bool), **how)
    assert len(list(maps)) == 3
    assert network.batches == [1, 1, 1]
    assert images_together(INFERENCE, torch.device("cuda")) == INFERENCE.window_batch


def test_memory_does_not_grow_with_the_classes_of_a_large_label_map():
    """1000 classes, half of the pixels undecided between all, on 400 x 400: all scores would take 640 MB."""
    text = torch.zeros(1000, 3)
    text[:, 0] = torch.linspace(0, 1, 1000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    labels = label_image(
        Brightest(),
        halves(400, 400),
        text,
        torch.zeros(1000, dtype=torch.bool),
        data=DATA,
        inference=INFERENCE,
        device=CPU,
    ).labels
    assert labels[200, 10] == 999
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 350e6
