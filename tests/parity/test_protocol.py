"""Preprocessing, metrics and starting weights equal the released ones (SPEC sections 1, 4, 12; golden `init`)."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cascade_clip.config.schema import IMAGENET_MEAN, IMAGENET_STD, DecoderConfig, ModelConfig, PromptConfig
from cascade_clip.data import photometric
from cascade_clip.data.resize import resize_bilinear, resize_nearest, train_size
from cascade_clip.data.resize import test_size as inference_size
from cascade_clip.data.transforms import normalise
from cascade_clip.evaluation.scores import confusion_matrix, scores_from_confusion
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.open_clip_model import build_model


@pytest.fixture(scope="module")
def facts(golden: Path) -> dict:
    return json.loads((golden / "preprocess" / "preprocess.json").read_text())


@pytest.fixture(scope="module")
def tensors(golden: Path) -> dict[str, np.ndarray]:
    return {name: t.numpy() for name, t in load_file(golden / "preprocess" / "preprocess.safetensors").items()}


def test_inference_resize_is_exact(facts: dict, tensors: dict[str, np.ndarray]):
    for number, case in enumerate(facts["test"]):
        assert inference_size(case["h"], case["w"], case["short"]) == (case["out_h"], case["out_w"])
        resized = resize_bilinear(tensors[f"test{number}.rgb_in"], case["out_h"], case["out_w"])
        assert np.array_equal(resized, tensors[f"test{number}.rgb_resized"])
        ours = normalise(resized, IMAGENET_MEAN, IMAGENET_STD)
        np.testing.assert_allclose(ours, tensors[f"test{number}.normalised_chw"], rtol=0, atol=1e-6)
    for size, expected in facts["sizes_only_512"].items():
        height, width = map(int, size.split("x"))
        assert list(inference_size(height, width, 512)) == expected


def test_training_resize_is_exact(facts: dict, tensors: dict[str, np.ndarray]):
    for number, case in enumerate(facts["train_resize"]):
        long_side, short_side = case["base_scale"]
        size = train_size(case["h"], case["w"], long_side, short_side, case["ratio"])
        assert size == (case["out_h"], case["out_w"])
        assert np.array_equal(
            resize_bilinear(tensors[f"train{number}.rgb_in"], *size), tensors[f"train{number}.rgb_resized"]
        )
        label = resize_nearest(tensors[f"train{number}.label_in"], *size)
        assert np.array_equal(label, tensors[f"train{number}.label_resized"])


def test_photometric_operations(facts: dict, tensors: dict[str, np.ndarray]):
    image, drawn = tensors["photo.in_rgb"], facts["photo"]
    assert np.array_equal(photometric.rgb_to_hsv(image), tensors["photo.hsv_of_in"])
    ours = {
        "brightness": photometric.brightness(image, drawn["brightness_beta"]),
        "contrast": photometric.contrast(image, drawn["contrast_alpha"]),
        "saturation": photometric.saturation(image, drawn["saturation_alpha"]),
        "hue": photometric.hue(image, drawn["hue_delta"]),
    }
    for name, result in ours.items():
        assert np.array_equal(result, tensors[f"photo.{name}_rgb"]), name


def test_metrics(golden: Path):
    facts = json.loads((golden / "metrics" / "metrics.json").read_text())
    maps = load_file(golden / "metrics" / "maps.safetensors")
    classes = facts["n_classes"]
    confusion = sum(confusion_matrix(maps[f"pred_{i}"], maps[f"label_{i}"], classes) for i in range(facts["n_images"]))
    scores = scores_from_confusion(confusion.numpy(), facts["seen"], facts["unseen"], [f"c{i}" for i in range(classes)])
    for name, golden_name in {
        "miou": "miou",
        "miou_seen": "miou_seen",
        "miou_unseen": "miou_unseen",
        "hiou": "hiou",
        "pixel_accuracy": "pixel_acc",
        "mean_accuracy": "macc",
        "mean_accuracy_seen": "macc_seen",
        "mean_accuracy_unseen": "macc_unseen",
    }.items():
        assert getattr(scores, name) == pytest.approx(facts[golden_name], rel=1e-9), name
    for ours, expected in [
        *zip(scores.iou, facts["iou"], strict=True),
        *zip(scores.accuracy, facts["class_acc"], strict=True),
    ]:
        assert math.isnan(ours) if expected is None else ours == pytest.approx(expected, rel=1e-9)


WIDTH, JOINT, PATCH = 192, 128, 16
"""A smaller model than the golden one (768, 512): the distributions' formulas scale with these sizes."""


@pytest.fixture(scope="module")
def fresh() -> dict[str, torch.Tensor]:
    settings = {
        "embed_dim": JOINT,
        "vision_cfg": {"image_size": 64, "layers": 12, "width": WIDTH, "patch_size": PATCH},
        "text_cfg": None,
        "quick_gelu": True,
    }
    torch.manual_seed(0)
    config = ModelConfig(prompts=PromptConfig(tokens=50), decoder=DecoderConfig(heads=8))
    return build_network(config, build_model(settings).visual).own_tensors()


def test_starting_distributions(golden: Path, fresh: dict[str, torch.Tensor]):
    """The golden file gives each tensor's formula; ours must have its mean, spread and bounds."""
    prompt_bound = math.sqrt(6 / (3 * PATCH**2 + WIDTH))
    groups = {g["group"]: g for g in json.loads((golden / "init" / "init.json").read_text())["Cascade-CLIP"]["groups"]}
    golden_bound = math.sqrt(6 / (3 * 16**2 + 768))
    assert groups["backbone.prompt_embeddings"]["max"] == pytest.approx(golden_bound, rel=2e-3)
    _uniform(fresh["encoder.prompts.embeddings"], prompt_bound)
    _normal(fresh["encoder.prompts.proj.weight"], math.sqrt(2 / WIDTH))
    _uniform(fresh["encoder.prompts.proj.bias"], WIDTH**-0.5, few=True)
    for tap in range(6, 12):
        _normal(fresh[f"encoder.tap_projections.{tap}.proj"], WIDTH**-0.5)
        assert bool((fresh[f"encoder.tap_projections.{tap}.norm.weight"] == 1).all())
    for stage in range(3):
        _uniform(fresh[f"head.text_projections.{stage}.weight"], (2 * JOINT) ** -0.5)
        for name in ("layers.0.q", "layers.0.k", "layers.0.v", "layers.0.proj", "layers.0.linear1"):
            _uniform(fresh[f"head.decoders.{stage}.{name}.weight"], JOINT**-0.5)
        _uniform(fresh[f"head.decoders.{stage}.layers.0.linear2.weight"], (4 * JOINT) ** -0.5)


def test_clones(golden: Path, fresh: dict[str, torch.Tensor]):
    clones = json.loads((golden / "init" / "init.json").read_text())["Cascade-CLIP"]["clones"]
    for stage in range(3):
        assert clones[f"decoder{stage}: layers start identical"]
        prefix = f"head.decoders.{stage}"
        for part in ("q.weight", "q.bias", "k.weight", "k.bias", "linear1.weight", "norm_feedforward.weight"):
            assert torch.equal(fresh[f"{prefix}.layers.0.{part}"], fresh[f"{prefix}.layers.1.{part}"])
        for part in ("q.weight", "q.bias", "k.weight", "k.bias"):
            assert torch.equal(fresh[f"{prefix}.layers.0.{part}"], fresh[f"{prefix}.mask.{part}"])
    assert not clones["the three decoders start identical"]
    assert not torch.equal(fresh["head.decoders.0.mask.q.weight"], fresh["head.decoders.1.mask.q.weight"])
    for stage in (0, 1):
        assert fresh[f"head.aggregations.{stage}.weights"].tolist() == pytest.approx(clones["weights_s1"], rel=1e-6)


def _uniform(tensor: torch.Tensor, bound: float, *, few: bool = False) -> None:
    assert float(tensor.abs().max()) <= bound * 1.0001
    assert float(tensor.abs().max()) > bound * (0.9 if few else 0.98)
    assert float(tensor.std()) == pytest.approx(bound / math.sqrt(3), rel=0.15 if few else 0.03)
    assert abs(float(tensor.mean())) < 0.15 * bound


def _normal(tensor: torch.Tensor, std: float) -> None:
    assert float(tensor.std()) == pytest.approx(std, rel=0.03)
    assert float(tensor.abs().max()) > 3 * std
    assert abs(float(tensor.mean())) < 0.05 * std
