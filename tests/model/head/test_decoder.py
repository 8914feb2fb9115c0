"""Dropout of the decoders' layers: where it is, and only while training."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from cascade_clip.model.head.decoder import DecoderLayer
from cascade_clip.model.head.frequency_decoder import FrequencyLayer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "rest"), [(DecoderLayer, ()), (FrequencyLayer, ((3, 3),))])
def test_attention_both_branches_and_the_hidden_layer_drop_while_training(
    kind: type[nn.Module], rest: tuple[object, ...], training: bool, monkeypatch
):
    layer = kind(8, 2, 16, 0.5).train(training)
    places, shares, attend = [], [], F.scaled_dot_product_attention
    layer.dropout.register_forward_hook(lambda _module, inputs, _output: places.append(inputs[0].shape[-1]))
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *given, **options: shares.append(options.get("dropout_p")) or attend(*given, **options),
    )
    layer(torch.randn(1, 4, 8), torch.randn(1, 9, 8), *rest)
    assert places == [8, 16, 8]
    assert shares[-1] == (0.5 if training else 0.0)
