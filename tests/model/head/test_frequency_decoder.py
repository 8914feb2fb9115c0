"""SPT-SEG's decoder: windows and means on any grid, closed gates, heads, and what never trains is not built."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import DecoderConfig, ModelConfig, PromptConfig, SpectralConfig
from cascade_clip.errors import UserError
from cascade_clip.inference.class_scores import labels_from_scores
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip
from cascade_clip.model.head.frequency_decoder import FrequencyDecoder, FrequencyTokens

DIM, HEADS = 16, 4


def _config(**changes: object) -> ModelConfig:
    settings = {"host": "spt-seg", "prompts": PromptConfig(tokens=2), "spectral": SpectralConfig(grid=4)}
    return ModelConfig(**(settings | {"stages": ((4,),)} | changes))


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.T * q.shape[-1] ** -0.5).softmax(dim=-1) @ v


def _by_hand(block: FrequencyTokens, memory: Tensor, grid: tuple[int, int]) -> Tensor:
    """One image (N, C), window by window and head by head, straight from SPEC section 16."""
    (height, width), size = grid, DIM // HEADS
    rows, columns = -(-height // 3), -(-width // 3)
    padded = torch.zeros(3 * rows, 3 * columns, DIM)
    padded[:height, :width] = memory.unflatten(0, grid)
    high = torch.zeros(3 * rows, 3 * columns, size)
    means = []
    for y in range(0, 3 * rows, 3):
        for x in range(0, 3 * columns, 3):
            window = padded[y : y + 3, x : x + 3].reshape(9, DIM)
            means.append(window.sum(dim=0) / 9)
            q, k, v = (window @ block.high_qkv.weight.T).split(size, dim=1)
            high[y : y + 3, x : x + 3] = _attention(q, k, v).reshape(3, 3, size)
    queries = memory @ block.low_q.weight.T
    keys, values = (torch.stack(means) @ block.low_kv.weight.T).split((HEADS - 1) * size, dim=1)
    heads = zip(queries.split(size, dim=1), keys.split(size, dim=1), values.split(size, dim=1), strict=True)
    low = block.low_proj(torch.cat([_attention(q, k, v) for q, k, v in heads], dim=1))
    tokens = torch.cat([high[:height, :width].reshape(-1, size), low], dim=1)
    cosine = F.normalize(tokens, dim=1) @ F.normalize(block.gate, dim=0)
    return (cosine.clamp(0, 1)[:, None] * tokens) @ block.transform


@torch.no_grad()
@pytest.mark.parametrize("grid", [(3, 3), (4, 5), (6, 2), (1, 1), (7, 9)])
def test_frequency_tokens_by_hand(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = FrequencyTokens(DIM, HEADS)
    block.transform += 0.1 * torch.randn(DIM, DIM)
    memory = torch.randn(2, grid[0] * grid[1], DIM)
    expected = torch.stack([_by_hand(block, image, grid) for image in memory])
    torch.testing.assert_close(block(memory, grid), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_closed_gate_is_a_tie_of_all_classes() -> None:
    torch.manual_seed(2)
    decoder = FrequencyDecoder(DIM, heads=HEADS, hidden=32).eval()
    logits = decoder(9 * torch.randn(1, 5, DIM), 9 * torch.randn(1, 36, DIM), (6, 6)).unflatten(-1, (6, 6))
    closed = (logits == 0).all(dim=1)
    assert torch.equal(closed, (logits == 0).any(dim=1))
    assert 0 < int(closed.sum()) < 36
    labels = labels_from_scores(logits[0].sigmoid(), (6, 6)).labels
    assert bool((labels[closed[0]] == 0).all())
    assert int(labels.max()) > 0


def test_the_released_start_closes_some_decoders_for_good_and_the_open_one_none() -> None:
    """A gate that is closed for all tokens has no gradient and never opens."""
    closed = 0
    for seed in range(20):
        torch.manual_seed(seed)
        decoder = FrequencyDecoder(64, hidden=32).eval()
        alike = F.normalize(torch.randn(64) + 0.2 * torch.randn(1, 36, 64), dim=-1)
        logits = decoder(torch.randn(1, 3, 64), alike, (6, 6))
        if bool((logits == 0).all()):
            closed += 1
            (logits - 1).square().sum().backward()
            assert not any(parameter.grad.any() for parameter in decoder.parameters() if parameter.grad is not None)
        torch.manual_seed(seed)
        opened = FrequencyDecoder(64, hidden=32, gate="open")
        assert bool((opened.mask(alike, (6, 6)) != 0).any(dim=-1).all())
    assert 4 <= closed <= 12


def test_heads(tiny_clip: Clip) -> None:
    """Eight whatever the joint dimension, unless the recipe says otherwise."""
    (decoder,) = build_network(_config(), tiny_clip.visual).head.decoders
    assert isinstance(decoder, FrequencyDecoder)
    assert (decoder.mask.low_heads, decoder.mask.high_qkv.out_features) == (7, 3 * 4)
    with pytest.raises(UserError, match="The decoder's 5 heads do not divide the joint dimension 32 of this CLIP"):
        build_network(_config(decoder=DecoderConfig(heads=5)), tiny_clip.visual)
    with pytest.raises(UserError, match=r"1 head is not enough, use --set model\.decoder\.heads=8"):
        build_network(_config(decoder=DecoderConfig(heads=1)), tiny_clip.visual)
