import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.inference.sliding_window import slide_scores, window_boxes


class PatchMeans(torch.nn.Module):
    """Logits that are affine in the mean colour of each patch, so that every pixel's score depends on where it is."""

    def __init__(self, patch_size: int = 4) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.calls: list[tuple[int, ...]] = []

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        assert image.shape[-1] % self.patch_size == 0
        assert image.shape[-2] % self.patch_size == 0
        self.calls.append(tuple(image.shape))
        return torch.einsum("bchw,kc->bkhw", F.avg_pool2d(image, self.patch_size), text)


@pytest.fixture
def text() -> torch.Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


def random_image(height: int, width: int) -> torch.Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


@pytest.mark.parametrize(
    ("size", "crop", "stride", "tops", "lefts"),
    [
        ((80, 150), 64, 53, [0, 16], [0, 53, 86]),
        ((512, 513), 512, 426, [0], [0, 1]),
        ((512, 938), 512, 426, [0], [0, 426]),
        ((300, 939), 512, 426, [0], [0, 426, 427]),
    ],
)
def test_windows_row_by_row(size: tuple[int, int], crop: int, stride: int, tops: list[int], lefts: list[int]):
    height, width = min(size[0], crop), min(size[1], crop)
    expected = [(y, x, y + height, x + width) for y in tops for x in lefts]
    assert window_boxes(*size, crop, stride) == expected
    assert expected[-1][2:] == size


def test_a_side_below_the_crop_is_padded_to_whole_patches_with_the_mean_colour(text: torch.Tensor):
    image, network = random_image(7, 10), PatchMeans()
    none_seen = torch.zeros(5, dtype=torch.bool)
    scores = slide_scores(network, image, text, none_seen, InferenceConfig(crop=512, stride=426))
    assert network.calls == [(1, 3, 8, 12)]
    padded = F.pad(image, (0, 2, 0, 1))[None]
    expected = F.interpolate(network(padded, text), size=(8, 12), mode="bilinear").sigmoid()[0, :, :7, :10]
    torch.testing.assert_close(scores, expected)


def test_mirrored_averaging_makes_the_scores_of_a_mirrored_image_the_mirrored_scores(text: torch.Tensor):
    class Ramp(PatchMeans):
        def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
            logits = super().forward(image, text)
            return logits + torch.linspace(-2, 2, logits.shape[-1])

    image = random_image(14, 15)
    seen = torch.ones(5, dtype=torch.bool)
    windows = InferenceConfig(crop=16, stride=16, flip=True)
    scores = slide_scores(Ramp(), image, text, seen, windows)
    torch.testing.assert_close(slide_scores(Ramp(), image.flip(-1), text, seen, windows).flip(-1), scores)
    unflipped = slide_scores(Ramp(), image, text, seen, windows.changed(flip=False))
    assert (unflipped - scores).abs().max() > 0.1
