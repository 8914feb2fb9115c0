"""Where nothing trains, nothing is kept for a backward pass."""

import torch
from torch import Tensor, nn

from cascade_clip.config.schema import Recipe
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import load_clip
from cascade_clip.model.network import CascadeNetwork


def _network(recipe: Recipe, host: str) -> CascadeNetwork:
    clip = load_clip(recipe.clip.architecture, recipe.clip.weights)
    return build_network(recipe.model.changed(host=host), clip.visual).train()


def _kept(module: nn.Module, *inputs: object) -> list[Tensor]:
    """Tensors other than weights that a forward pass keeps."""
    weights = {parameter.data_ptr() for parameter in module.parameters()}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(*inputs)
    return kept


def test_a_frozen_encoder_keeps_nothing(tiny_recipe: Recipe):
    network = _network(tiny_recipe, "frozen-clip")
    image = torch.zeros(1, 3, 64, 64)
    assert not any(parameter.requires_grad for parameter in network.encoder.parameters())
    assert _kept(network.encoder, image) == []
    assert _kept(network, image, torch.eye(3, 32)) != []
    assert _kept(_network(tiny_recipe, "zegclip").encoder, image) != []


def test_the_feed_forward_parts_keep_one_hidden_tensor(tiny_recipe: Recipe):
    """Frozen linear layers keep no input, and the activation keeps one tensor: none where it is computed again."""
    network = _network(tiny_recipe, "zegclip")
    blocks = network.encoder.visual.transformer.resblocks
    hidden = blocks[0].mlp.c_fc.out_features
    for again, expected in ((False, len(blocks)), (True, 0)):
        network.encoder.gradient_checkpointing = again
        kept = [tensor for tensor in _kept(network.encoder, torch.zeros(1, 3, 64, 64)) if tensor.shape[-1] == hidden]
        assert len(kept) == expected
