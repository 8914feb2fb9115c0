"""The spectral prompt is a circular convolution of patches times class token, the same on every grid (SPEC 16)."""

import pytest
import torch

from cascade_clip.model.clip.prompts import SpectralPrompt

WIDTH = 3
OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def _patches(grid: tuple[int, int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    height, width = grid
    return torch.randn(2, height * width, WIDTH, generator=generator), torch.randn(2, 1, WIDTH, generator=generator)


def _prompt_of_kernel(grid: tuple[int, int], kernel: torch.Tensor) -> SpectralPrompt:
    """A prompt whose weight is the spectrum of a 3 x 3 kernel (9, W) around the offset 0."""
    spread = torch.zeros(*grid, WIDTH)
    for (dy, dx), value in zip(OFFSETS, kernel, strict=True):
        spread[dy, dx] = value
    prompt = SpectralPrompt(grid, WIDTH)
    with torch.no_grad():
        prompt.weight.copy_(torch.view_as_real(torch.fft.rfft2(spread, dim=(0, 1))))
    return prompt


@torch.no_grad()
@pytest.mark.parametrize("made_for", [(8, 8), (7, 5), (3, 3)])
@pytest.mark.parametrize("grid", [(8, 8), (5, 7), (12, 20), (16, 16), (3, 3), (4, 9)])
def test_near_patches_act_on_each_other_alike_on_every_grid(made_for: tuple[int, int], grid: tuple[int, int]):
    kernel = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(1))
    patches, class_token = _patches(grid)
    product = (patches * class_token).unflatten(1, grid)
    expected = torch.zeros_like(product)
    for (dy, dx), value in zip(OFFSETS, kernel, strict=True):
        expected += value * product.roll((dy, dx), dims=(1, 2))
    ours = _prompt_of_kernel(made_for, kernel)(patches, class_token, grid)
    torch.testing.assert_close(ours, expected.flatten(1, 2), rtol=0, atol=1e-5)


def test_half_precision_and_gradient():
    torch.manual_seed(0)
    prompt = SpectralPrompt((4, 4), WIDTH)
    patches, class_token = _patches((4, 4))
    low = prompt(patches.bfloat16(), class_token.bfloat16(), (4, 4))
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), prompt(patches, class_token, (4, 4)), rtol=0.02, atol=0.002)
    for grid in ((4, 4), (6, 2)):
        prompt.weight.grad = None
        prompt(*_patches(grid), grid).square().sum().backward()
        assert prompt.weight.grad is not None
        assert float(prompt.weight.grad.abs().max()) > 0
