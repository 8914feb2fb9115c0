"""SPT-SEG's decoder: windows and means on any grid, closed gates, heads, and what never trains is not built."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import DecoderConfig, ModelConfig, PromptConfig, SpectralConfig
from cascade_clip.errors import UserError
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip
from cascade_clip.model.head.frequency_decoder import FrequencyDecoder

DIM, HEADS = 16, 4


def _config(**changes: object) -> ModelConfig:
    settings = {"host": "spt-seg", "prompts": PromptConfig(tokens=2), "spectral": SpectralConfig(grid=4)}
    return ModelConfig(**(settings | {"stages": ((4,),)} | changes))


def test_the_released_start_closes_some_decoders_for_good_and_the_open_one_none():
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


def test_heads(tiny_clip: Clip):
    """Eight whatever the joint dimension, unless the recipe says otherwise."""
    (decoder,) = build_network(_config(), tiny_clip.visual).head.decoders
    assert isinstance(decoder, FrequencyDecoder)
    assert (decoder.mask.low_heads, decoder.mask.high_qkv.out_features) == (7, 3 * 4)
    with pytest.raises(UserError, match="The decoder's 5 heads do not divide the joint dimension 32 of this CLIP"):
        build_network(_config(decoder=DecoderConfig(heads=5)), tiny_clip.visual)
    with pytest.raises(UserError, match=r"1 head is not enough, use --set model\.decoder\.heads=8"):
        build_network(_config(decoder=DecoderConfig(heads=1)), tiny_clip.visual)
