"""What trains, with which rate, and where four steps lead (SPEC sections 8 to 10)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cascade_clip.checkpoint.upstream_names import PROMPTS, clip_name, own_name
from cascade_clip.config.schema import TrainConfig
from cascade_clip.losses.criterion import segmentation_loss
from cascade_clip.losses.targets import remap_labels, seen_label_table
from cascade_clip.training.step import build_optimizer, learning_rate, set_learning_rate, trainable_parameters

from .conftest import GoldenModel
from .test_loss import ZERO_GRADIENT


def test_trainable_names(model: GoldenModel):
    facts = json.loads((model.folder / "trainable.json").read_text())
    alive = set(facts["trainable"]) - set(facts["trainable_but_never_receiving_gradient"])
    expected = {own_name(name, model.layout) for name in alive if name not in PROMPTS} | {"encoder.prompts.embeddings"}
    assert set(trainable_parameters(model.imported.network)) == expected
    for name in facts["trainable_but_never_receiving_gradient"]:
        assert own_name(name, model.layout) is None
    frozen = [name for name in facts["frozen"] if clip_name(name) is None]
    parameters = dict(model.imported.network.named_parameters())
    assert all(not parameters[f"encoder.tap_projections.{tap}.proj"].requires_grad for tap in model.layout.taps)
    assert bool(frozen) == bool(model.layout.taps)


def test_groups(model: GoldenModel):
    facts = json.loads((model.folder / "trainable.json").read_text())
    optimizer = build_optimizer(model.imported.network, TrainConfig())
    ((rate, decay),) = {(group["lr"], group["weight_decay"]) for group in facts["param_groups"]}
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(rate, rel=1e-12)
        assert group["weight_decay"] == decay
    grouped = sum(len(group["params"]) for group in optimizer.param_groups)
    assert grouped == len(trainable_parameters(model.imported.network))


def test_learning_rates(golden: Path):
    facts = json.loads((golden / "schedule" / "lr.json").read_text())
    for steps, rates in facts["schedules"].items():
        for step, rate in rates.items():
            ours = learning_rate(
                int(step),
                int(steps),
                base=facts["group_lr"],
                min_lr=facts["min_lr"],
                power=facts["power"],
                warmup=facts["warmup_iters"],
                warmup_ratio=facts["warmup_ratio"],
            )
            assert ours == pytest.approx(rate, rel=1e-9)


def test_parameters_after_four_steps(model: GoldenModel):
    facts = json.loads((model.folder / "train_steps.json").read_text())
    golden = load_file(model.folder / "train_steps.safetensors")
    network = model.fresh().network.train()
    config = TrainConfig(iterations=12, warmup=2)
    optimizer = build_optimizer(network, config)
    labels = remap_labels(model.loss["labels"][:, 0].long(), seen_label_table(model.seen))
    image = model.loss.get("image", model.io["image"])
    for step in facts["steps"]:
        assert set_learning_rate(optimizer, step["iter"], config) == pytest.approx(step["lr"][0], rel=1e-9)
        terms = segmentation_loss(network(image, model.text[model.seen]), labels)
        assert terms.total.item() == pytest.approx(step["total"], rel=1e-5)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
    ours = network.own_tensors()
    compared = 0
    for name, tensor in golden.items():
        if name.endswith(ZERO_GRADIENT):
            continue
        own = model.ours(name, ours)
        if own is not None:
            torch.testing.assert_close(own, tensor, rtol=0, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}")
            compared += 1
    assert compared > 20
