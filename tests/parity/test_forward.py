"""Taps, masks, scores, labels and sliding window equal the released computation (SPEC sections 3 to 5)."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.inference.class_scores import class_scores, labels_from_scores
from cascade_clip.inference.sliding_window import slide_scores, window_boxes
from cascade_clip.model.clip.text import embed_sentences

from .conftest import TOLERANCE, GoldenModel

Check = Callable[[Tensor, Tensor, Tensor], None]


def close(ours: Tensor, golden: Tensor, kind: str) -> None:
    torch.testing.assert_close(ours, golden, rtol=0, atol=TOLERANCE[kind])


@torch.no_grad()
def test_every_tap_and_the_global_embedding(model: GoldenModel):
    features = model.imported.network.encoder(model.io["image"])
    for block, tokens in features.patch_tokens.items():
        last = block == model.imported.network.encoder.blocks
        name = "final_map" if last else f"tap_block{block - 1:02d}"
        close(tokens.transpose(1, 2).unflatten(-1, features.grid), model.io[name], "features")
    taps = [name for name in model.io if name.startswith("tap_block")]
    assert len(features.patch_tokens) == len(taps) + 1
    close(features.class_token, model.io["global_embedding"], "features")


@torch.no_grad()
def test_each_stage_and_the_sum(model: GoldenModel):
    stages = model.imported.network.stage_logits(model.io["image"], model.text)
    assert len(stages) == len([name for name in model.io if name.startswith("stage")]) or len(stages) == 1
    for number, mask in enumerate(stages, start=1):
        if f"stage{number}_mask" in model.io:
            close(mask, model.io[f"stage{number}_mask"], "mask_logits")
    upsampled = F.interpolate(
        model.imported.network(model.io["image"], model.text), size=model.io["image"].shape[-2:], mode="bilinear"
    )
    close(upsampled, model.io["pred_masks"], "mask_logits")


@torch.no_grad()
def test_a_class_does_not_depend_on_the_others(model: GoldenModel):
    logits = model.imported.network(model.io["image"], model.text[model.seen])
    upsampled = F.interpolate(logits, size=model.io["image"].shape[-2:], mode="bilinear")
    close(upsampled, model.io["pred_masks_seen_only"], "mask_logits")


@torch.no_grad()
@pytest.mark.parametrize(("setting", "bias"), [("inductive", 0.1), ("selftrain", 0.0)])
def test_scores_and_labels(model: GoldenModel, setting: str, bias: float, assert_labels_agree: Check):
    seen = torch.zeros(len(model.text), dtype=torch.bool)
    seen[model.seen] = True
    logits = model.imported.network(model.io["image"], model.text)
    scores = class_scores(logits, tuple(model.io["image"].shape[-2:]), seen, bias)
    close(scores, model.io[f"pred_{setting}"], "scores")
    assert_labels_agree(scores.argmax(dim=1), model.io[f"argmax_{setting}"], model.io[f"pred_{setting}"])


@torch.no_grad()
@pytest.mark.parametrize(("setting", "bias"), [("inductive", 0.1), ("selftrain", 0.0)])
def test_sliding_window(golden: Path, model: GoldenModel, setting: str, bias: float, assert_labels_agree: Check):
    facts = json.loads((golden / "slide" / "slide.json").read_text())
    if not facts["weights"].startswith(f"../{model.folder.name}/"):
        pytest.skip("the sliding window was recorded with the other model's weights")
    tensors = load_file(golden / "slide" / "slide.safetensors")
    boxes = window_boxes(facts["h"], facts["w"], facts["crop"], facts["stride"])
    assert [list(box) for box in boxes] == tensors["window_boxes_y1x1y2x2"].tolist() == facts["windows_y1x1y2x2"]
    text = tensors["text_features_f16"].float()
    seen = torch.zeros(len(text), dtype=torch.bool)
    seen[model.seen] = True
    windows = InferenceConfig(crop=facts["crop"], stride=facts["stride"], seen_bias=bias)
    scores = slide_scores(model.imported.network, tensors["image"][0], text, seen, windows)
    close(scores[None], tensors[f"avg_scores_{setting}"], "scores")
    result = labels_from_scores(scores, (facts["oh"], facts["ow"]), None)
    golden_scores = tensors[f"scores_ori_{setting}"]
    assert_labels_agree(result.labels[None], tensors[f"labels_ori_{setting}"], golden_scores)
    close(result.scores[None], golden_scores.max(dim=1).values, "scores")


@torch.no_grad()
def test_text_tower(model: GoldenModel):
    golden_text = load_file(model.folder / "text.safetensors")
    tower = model.imported.clip.model
    raw, expected = tower.encode_text(golden_text["tokens_single"]), golden_text["encoder_raw_single"]
    torch.testing.assert_close(raw, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    for setting in ("single", "multi"):
        tokens = golden_text[f"tokens_{setting}"]
        ours = torch.stack([embed_sentences(tower, sentences.reshape(-1, tokens.shape[-1])) for sentences in tokens])
        close(ours, golden_text[f"embedding_{setting}"], "features")
