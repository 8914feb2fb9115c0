"""Queries, decoder and cascade: shapes, independence of classes, options, and what never trains is not built."""

import pytest
import torch

from cascade_clip.config.schema import AggregationConfig, DecoderConfig, ModelConfig, PromptConfig
from cascade_clip.extensions import AGGREGATIONS, HOSTS
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip
from cascade_clip.reproduce.plan import table_rows
from cascade_clip.reproduce.table_file import read_table
from cascade_clip.training.step import trainable_parameters


def _config(**changes: object) -> ModelConfig:
    settings = {"stages": ((1, 2), (3,), (4,)), "prompts": PromptConfig(tokens=2), "decoder": DecoderConfig(heads=4)}
    return ModelConfig(**(settings | changes))


@pytest.mark.parametrize("host", HOSTS.names())
@pytest.mark.parametrize("stages", [((4,),), ((1, 2), (3,), (4,)), ((1,), (2,), (2, 3), (3, 4))])
def test_hosts_plain_and_cascaded_on_any_grid(tiny_clip: Clip, host: str, stages: tuple):
    network = build_network(_config(host=host, stages=stages), tiny_clip.visual).eval()
    text = torch.nn.functional.normalize(torch.randn(5, 32), dim=-1)
    masks = network.stage_logits(torch.randn(2, 3, 48, 80), text)
    assert [tuple(mask.shape) for mask in masks] == [(2, 5, 3, 5)] * len(stages)
    torch.testing.assert_close(
        network(torch.ones(1, 3, 48, 80), text), sum(network.stage_logits(torch.ones(1, 3, 48, 80), text))
    )


@torch.no_grad()
def test_a_stage_may_mix_the_last_block_with_others(tiny_clip: Clip):
    """The last block goes through CLIP's own norm and projection, the others through their own (SPEC section 3)."""
    config = _config(stages=((1, 2), (3, 4)), aggregation=AggregationConfig(kind="sum", train=False))
    network = build_network(config, tiny_clip.visual).eval()
    assert list(network.encoder.tap_projections) == ["1", "2", "3"]
    image, text = torch.randn(1, 3, 64, 64), torch.randn(3, 32)
    features = network.encoder(image)
    alone = build_network(_config(stages=((4,),)), tiny_clip.visual).eval()
    alone.load_state_dict(network.state_dict(), strict=False)
    torch.testing.assert_close(features.patch_tokens[4], alone.encoder(image).patch_tokens[4])
    memories: list[torch.Tensor] = []
    network.head.decoders[1].register_forward_pre_hook(lambda _, inputs: memories.append(inputs[1]))
    network.head(features, text)
    torch.testing.assert_close(memories, [features.patch_tokens[3] + features.patch_tokens[4]])


@torch.no_grad()
@pytest.mark.parametrize("text_projection", ["independent", "shared"])
def test_several_decoders_read_the_one_fusion_of_their_stage(tiny_clip: Clip, text_projection: str):
    """Paper, Table 7: the features of a stage are merged once; every decoder starts elsewhere."""
    aggregation = AggregationConfig(kind="concat")
    stages = {"stages": ((1, 2, 3), (4,)), "decoders_per_stage": 2}
    config = _config(**stages, text_projection=text_projection, aggregation=aggregation)
    network = build_network(config, tiny_clip.visual).eval()
    head = network.head
    assert (len(head.aggregations), len(head.decoders)) == (2, 4)
    assert len(head.text_projections) == (4 if text_projection == "independent" else 1)
    memories: list[torch.Tensor] = []
    for decoder in head.decoders:
        decoder.register_forward_pre_hook(lambda _, inputs: memories.append(inputs[1]))
    features = network.encoder(torch.randn(1, 3, 64, 64))
    masks = head(features, torch.randn(3, 32))
    assert memories[0] is memories[1]
    assert memories[2] is memories[3] is features.patch_tokens[4]
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[2], masks[3])


ALL_PARTS = {"prompts", "prompt_norm", "spectral"}
HOST_PARTS = {"zegclip": {"prompts", "prompt_norm"}, "spt-seg": ALL_PARTS, "frozen-clip": set()}


@pytest.mark.parametrize("kind", AGGREGATIONS.names())
@pytest.mark.parametrize("host", HOSTS.names())
def test_every_host_and_aggregation_trains_and_fits_a_checkpoint(tiny_clip: Clip, host: str, kind: str):
    decoder = DecoderConfig(heads=4, gate="open")
    config = _config(host=host, aggregation=AggregationConfig(kind=kind), decoders_per_stage=2, decoder=decoder)
    network, other = (build_network(config, tiny_clip.visual) for _ in range(2))
    image, text = torch.randn(1, 3, 64, 64), torch.randn(3, 32)
    network.train()(image, text).square().sum().backward()
    trainable = trainable_parameters(network)
    assert all(parameter.grad is not None for parameter in trainable.values())
    if host in HOST_PARTS:
        assert HOST_PARTS[host] == {part for part in ALL_PARTS if any(part in name for name in trainable)}
    other.load_own_tensors(network.own_tensors())
    assert torch.equal(network.eval()(image, text), other.eval()(image, text))
    merging = network.head.aggregations[0].named_parameters()
    assert trainable.keys() >= {f"head.aggregations.0.{name}" for name, _ in merging}
    assert not any("visual" in name or "tap_projections" in name for name in trainable)


def _full_size_count(config: ModelConfig) -> int:
    from cascade_clip.model.clip.open_clip_model import build_model

    settings = {
        "embed_dim": 512,
        "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
        "text_cfg": None,
    }
    with torch.device("meta"):
        network = build_network(config, build_model(settings).visual)
    return sum(parameter.numel() for parameter in trainable_parameters(network).values())


def test_rows_of_table_7_have_equal_parameters():
    """The paper counts 40.5 M in each; 17.3 M of them, which nothing uses (SPEC section 8), are not built here."""
    dead = 40_463_622 - 23_117_574
    rows = table_rows(read_table("table7"), "coco-seen")
    counts = {row.row.shown: _full_size_count(row.recipe.model) for row in rows}
    # The cascade alone has weights to train in its aggregations: three for each of two stages.
    assert counts == {"Last-layer": 23_117_568, "Multi-layer fusion": 23_117_568, "Cascade-CLIP": 23_117_574}
    assert {round((count + dead) / 1e6, 1) for count in counts.values()} == {40.5}
