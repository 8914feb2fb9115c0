from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from cascade_clip import CascadeCLIP
from cascade_clip.config.schema import DataConfig, InferenceConfig
from cascade_clip.errors import UserError
from cascade_clip.inference import predictor as predictor_module
from cascade_clip.inference.class_scores import labels_from_scores
from cascade_clip.inference.predictor import Predictor, prepare_image
from cascade_clip.inference.sliding_window import MaskNetwork, slide_scores
from cascade_clip.inference.vocabulary import Vocabulary

DATA = DataConfig(short_side=32, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
INFERENCE = InferenceConfig(crop=32, stride=24, seen_bias=0.1)
CPU = torch.device("cpu")
RGB = Vocabulary(("red", "green", "blue"), torch.eye(3), torch.tensor([True, False, True]))
PIXELS = np.random.default_rng(0).integers(0, 255, (70, 150, 3), dtype=np.uint8)


class Brightest(torch.nn.Module):
    """The class whose row of the text is nearest to the patch's colour; keeps the sizes of its batches."""

    patch_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(image))
        return 8 * torch.einsum("bchw,kc->bkhw", F.avg_pool2d(image, 4), text)


def predictor(network: MaskNetwork | None = None) -> Predictor:
    return Predictor(network or Brightest(), DATA, INFERENCE, device=CPU)


def none_seen(text: torch.Tensor) -> Vocabulary:
    return Vocabulary.of_names(None, text)


def halves(height: int, width: int) -> np.ndarray:
    """Red on the left, blue on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 255
    image[:, width // 2 :, 2] = 255
    return image


@pytest.mark.parametrize(("height", "width"), [(64, 128), (33, 57), (8, 16), (200, 40)])
def test_labels_have_the_size_of_the_image(height: int, width: int):
    result = predictor().segment_image(halves(height, width), RGB)
    assert result.labels.shape == result.scores.shape == (height, width)
    assert (result.labels.dtype, result.scores.dtype) == (np.uint8, np.float32)
    assert (result.labels[:, : width // 4] == 0).all()
    assert (result.labels[:, -(width // 4) :] == 2).all()


def test_an_extremely_narrow_image_is_refused():
    with pytest.raises(UserError, match=r"200000 x 1 pixels.*6400000.*30 classes do not fit"):
        predictor().segment_image(np.zeros((1, 200000, 3), np.uint8), none_seen(torch.zeros(30, 3)))


@pytest.mark.parametrize(
    ("sizes", "short_side", "batches"),
    [
        ([(64, 100), (40, 90), (32, 32), (20, 64)], 32, [3, 3, 3, 1]),  # 2, 3, 1 and 4 windows of one size
        ([(200, 30), (30, 200)], 32, [3, 3, 3, 3, 3, 3]),
        ([(16, 16), (16, 20), (16, 20), (16, 16)], 16, [1, 2, 1]),  # windows of other sizes have their own batches
    ],
)
def test_windows_of_several_images_share_batches_and_give_the_same_labels(
    sizes: list[tuple[int, int]], short_side: int, batches: list[int]
):
    images, network = [halves(*size) for size in sizes], Brightest()
    windows, data = INFERENCE.changed(window_batch=3), DATA.changed(short_side=short_side)
    at_work = Predictor(network, data, windows, device=CPU)
    maps = list(at_work.label_maps(iter(images), RGB, together=4))
    assert network.batches[: len(batches)] == batches
    for image, labels in zip(images, maps, strict=True):
        assert torch.equal(labels, at_work.label_image(image, RGB).labels)


def test_images_keep_to_themselves_on_a_cpu():
    network = Brightest()
    assert len(list(predictor(network).label_maps([halves(32, 32)] * 3, RGB))) == 3
    assert network.batches == [1, 1, 1]
    elsewhere = Predictor(network, DATA, INFERENCE, device=torch.device("cuda"))
    assert elsewhere.images_together == INFERENCE.window_batch


@pytest.fixture(scope="module", params=["trained", "dense", "pixels only"])
def network(request, tiny_model: CascadeCLIP, tiny_recipe: Any) -> MaskNetwork:
    """Networks that encode an image apart, and one that does not."""
    if request.param == "dense":
        return CascadeCLIP.from_pretrained("dense:bundled").network
    return tiny_model.network if request.param == "trained" else Brightest()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("flip", [False, True])
def test_an_image_encoded_once_gives_the_labels_of_the_plain_path(network: MaskNetwork, flip: bool, dtype: torch.dtype):
    """Bit for bit, for one vocabulary after the other."""
    channels = 3 if isinstance(network, Brightest) else int(network.state_dict()[_projection(network)].shape[1])
    short = DATA.changed(short_side=64)
    windows = INFERENCE.changed(crop=64, stride=48, flip=flip, window_batch=2)
    at_work = Predictor(network, short, windows, device=CPU, dtype=dtype)
    at_work.set_image(PIXELS)
    pixels = torch.from_numpy(prepare_image(PIXELS, short))
    for classes in (3, 7):
        text = F.normalize(torch.randn(classes, channels, generator=torch.Generator().manual_seed(classes)), dim=-1)
        vocabulary = Vocabulary(tuple("abcdefg"[:classes]), text, torch.arange(classes) % 2 == 0)
        scores = slide_scores(network, pixels, text, vocabulary.seen, windows, dtype=dtype)
        assert torch.equal(at_work.scores(vocabulary), scores)
        full = slide_scores(network, pixels, text, vocabulary.seen, windows)
        assert torch.equal(scores, full) is (dtype is torch.float32)
        expected = labels_from_scores(scores, (70, 150), 0.4)
        for result in (at_work.segment(vocabulary, 0.4), at_work.segment_image(PIXELS, vocabulary, 0.4)):
            assert np.array_equal(result.labels, expected.labels.numpy())
            assert np.array_equal(result.scores, expected.scores.numpy())
        (labels,) = at_work.label_maps([PIXELS], vocabulary)
        assert torch.equal(labels, labels_from_scores(scores, (70, 150)).labels)


def _projection(network: Any) -> str:
    return next(name for name in network.state_dict() if name.endswith("visual.proj"))


def test_an_image_is_encoded_once_unless_it_has_too_many_windows(tiny_model: CascadeCLIP, monkeypatch):
    encoded: list[int] = []
    monkeypatch.setattr(
        tiny_model.network, "encode", lambda image: encoded.append(len(image)) or tiny_model.network.encoder(image)
    )
    at_work = tiny_model.predictor()
    vocabulary = none_seen(torch.randn(2, 32))
    at_work.set_image(PIXELS)
    at_work.segment(vocabulary)
    at_work.segment(vocabulary)
    at_work.stage_scores(vocabulary.text)
    assert encoded == [3]
    monkeypatch.setattr(predictor_module, "MOST_ENCODED_WINDOWS", 2)
    at_work.set_image(PIXELS)
    assert encoded == [3]
    at_work.segment(vocabulary)
    assert encoded == [3, 3]


def test_mistakes_in_python():
    with pytest.raises(UserError, match=r"No image was set: call set_image\(image\) first"):
        predictor().segment(RGB)
    with pytest.raises(UserError, match="This model has no stages to look at"):
        predictor().stage_scores(RGB.text)
    with pytest.raises(UserError, match=r"For 2 classes text embeddings of shape \(3, 3\) are given: \(2, chan"):
        Vocabulary.of_names(["a", "b"], torch.eye(3))
