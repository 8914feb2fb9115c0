"""From images and words to labels, against the released codes (training_free/SPEC sections 3 and 4)."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from cascade_clip.config.schema import InferenceConfig
from cascade_clip.config.training_free import TrainingFreeConfig
from cascade_clip.data.resize import resize_bilinear
from cascade_clip.data.resize import test_size as inference_size
from cascade_clip.data.transforms import normalise
from cascade_clip.inference.query_labels import QueryLabels, class_probabilities, small_classes
from cascade_clip.inference.sliding_window import WindowLogits, averaged_cosines, window_logits
from cascade_clip.inference.vocabulary import Queries
from cascade_clip.model.clip.load import load_clip
from cascade_clip.model.clip.text import embed_sentences, encode_text, templates_of
from cascade_clip.model.dense import DenseNetwork
from cascade_clip.model.training_free import METHODS

SCORES, PROBABILITIES, UNIT, REFINED = 5e-6, 5e-5, 1e-6, 2e-5
"""Tolerances of SPEC section 7: cosines, probabilities, text; the refined MaskCLIP adds 5e-6 of the value."""
LABEL_GAP = 1e-4
"""Labels must agree where the best two scores are further apart."""
DIRECT = {"sclip", "clearclip", "scclip"}
"""Methods whose scores of a whole image are resized from the patches to the image's own size at once."""
STATISTICS = (122.771, 116.746, 104.094), (68.501, 66.632, 70.323)
"""Mean and standard deviation as the released configurations round them."""


def _tensors(folder: Path, name: str) -> tuple[dict[str, Tensor], Any]:
    return load_file(folder / f"{name}.safetensors"), json.loads((folder / f"{name}.json").read_text("utf-8"))


def test_text(training_free: Path):
    tensors, facts = _tensors(training_free, "text")
    assert templates_of("imagenet") == tuple(facts["templates"])
    model = load_clip(f"local-dir:{training_free / 'tiny_clip'}").model
    tokens = tensors["tokens"].long()
    ours = torch.stack([embed_sentences(model, sentences) for sentences in tokens])
    torch.testing.assert_close(ours, tensors["query_features"], rtol=0, atol=UNIT)
    every = tokens.shape[1] // tensors["encode_text"].shape[1]
    with torch.no_grad():
        raw = encode_text(model, tokens[:, ::every].flatten(0, 1)).unflatten(0, tensors["encode_text"].shape[:2])
    torch.testing.assert_close(raw, tensors["encode_text"], rtol=0, atol=5e-6 * float(raw.abs().max()))
    words = [(index, word.strip()) for index, line in enumerate(facts["classes"]) for word in line.split(",")]
    assert [word for _, word in words] == facts["queries"]
    assert [index for index, _ in words] == tensors["query_index"].tolist()


def test_preprocessing(training_free: Path):
    tensors, facts = _tensors(training_free, "preprocess")
    for case in facts["cases"]:
        number, (long, short) = case["case"], case["scale"]
        image = tensors[f"{number}.in_rgb"].numpy()
        size = inference_size(*image.shape[:2], short, long)
        assert list(size) == case["out"]
        resized = resize_bilinear(image, *size)
        assert np.array_equal(resized, tensors[f"{number}.resized_rgb"].numpy())
        if f"{number}.normalised" in tensors:
            expected = tensors[f"{number}.normalised"].numpy()
            np.testing.assert_allclose(normalise(resized, *STATISTICS), expected, rtol=0, atol=SCORES)
    for width, height, short, out_width, out_height in facts["rescale"]:
        assert inference_size(height, width, short, facts["long_cap"]) == (out_height, out_width)


def test_postprocessing(training_free: Path):
    tensors, facts = _tensors(training_free, "postprocess")
    index = load_file(training_free / "inputs.safetensors")["query_index"].tolist()
    maps = tensors["scores"][0]
    for name, case in facts.items():
        rows = list(range(len(maps))) if case.get("query_index") == "identity" else index
        config = _config(case)
        probabilities = _probabilities(maps, Queries.of_classes(rows), config)
        if name.startswith("naclip"):
            probabilities /= probabilities.sum(dim=0)
        torch.testing.assert_close(
            probabilities, tensors[f"{name}.probabilities"], rtol=0, atol=PROBABILITIES, msg=name
        )
        labels = QueryLabels(maps, tuple(maps.shape[1:]), Queries.of_classes(rows), max(rows) + 1, config).write()
        assert torch.equal(labels, tensors[f"{name}.labels"]), name


def test_pipelines(training_free: Path):
    """All runs of images to labels; which there are the folder says."""
    tensors, cases = _tensors(training_free, "pipelines")
    inputs = load_file(training_free / "inputs.safetensors")
    visual = load_clip(f"local-dir:{training_free / 'tiny_clip'}").visual
    assert cases
    for name, case in cases.items():
        run = _Pipeline(visual, case, inputs)
        compared = [key for key in tensors if key.rpartition(".")[0] == name]
        assert compared
        for key in compared:
            run.check(key.rpartition(".")[2], tensors[key], key)


class _Pipeline:
    """One run with our parts, put together as `Predictor` does."""

    def __init__(self, visual: Any, case: dict[str, Any], inputs: dict[str, Tensor]) -> None:
        self.method, self.config = _method(case), _config(case)
        image = inputs[f"{case['image']}.image"][0]
        mask_clip = self.method.startswith("maskclip")
        text = inputs["text_embeddings" if mask_clip else "query_embeddings"]
        index = list(range(len(text))) if mask_clip else inputs["query_index"].tolist()
        self.queries, self.classes = Queries.of_classes(index), max(index) + 1
        crop, stride = (case["crop"], case["stride"]) if case["crop"] else (1, 1)
        windows = InferenceConfig(crop=crop, stride=stride, training_free=self.config)
        network = DenseNetwork(visual, METHODS[self.method]).eval()
        self.windows: WindowLogits = window_logits(network, [image], text, windows)[0]
        direct = self.config.whole_image and self.config.direct
        maps = self.windows.logits[0] if direct else averaged_cosines(self.windows)
        at_work = QueryLabels(maps, tuple(case["out_size"]), self.queries, self.classes, self.config, image)
        self.labels = at_work.write()
        self.full = torch.cat([block for _, block in at_work._blocks()], dim=1)

    def check(self, kind: str, golden: Tensor, key: str) -> None:
        if kind == "labels":
            best = _probabilities(self.full, self.queries, self.config).topk(2, dim=0).values
            clear = best[0] - best[1] > LABEL_GAP
            assert torch.equal(self.labels[clear], golden[clear]), key
            return
        kind, _, every = kind.partition("_every")
        step = int(every or 1)
        ours = {
            "scores": lambda: averaged_cosines(self.windows)[None],
            "scores_resized": lambda: self.full[None],
            "scores_grid": lambda: self.windows.logits,
            "probabilities": self._returned_probabilities,
        }[kind]()[..., ::step, ::step]
        absolute, relative = PROBABILITIES if kind == "probabilities" else SCORES, 0.0
        if self.method == "maskclip_refined":
            absolute, relative = REFINED, 5e-6
        torch.testing.assert_close(ours, golden, rtol=relative, atol=absolute, msg=key)

    def _returned_probabilities(self) -> Tensor:
        probabilities = _probabilities(self.full, self.queries, self.config)
        return probabilities / probabilities.sum(dim=0) if self.method in {"naclip", "resclip"} else probabilities


def _method(case: dict[str, Any]) -> str:
    name = re.sub(r"[^a-z]", "", case["method"].lower())
    return "maskclip_refined" if case.get("ks_thresh") or case.get("pd_thresh") else name


def _config(case: dict[str, Any]) -> TrainingFreeConfig:
    return TrainingFreeConfig(
        logit_scale=case.get("logit_scale", 1),
        whole_image=case.get("crop") == 0,
        direct=case.get("method") in DIRECT,
        pad_windows=case.get("pad_crops_to_patch", False),
        probability_threshold=case.get("prob_thd", 0),
        area_threshold=case.get("area_thd"),
        pamr_steps=case.get("pamr_steps", 0),
        pamr_dilations=case.get("pamr_dilations", (8, 16)),
    )


def _probabilities(maps: Tensor, queries: Queries, config: TrainingFreeConfig) -> Tensor:
    classes = int(queries.index.max()) + 1
    probabilities = class_probabilities(maps, queries, classes, config.logit_scale)
    if config.area_threshold is not None:
        probabilities[small_classes(probabilities.argmax(dim=0), classes, config.area_threshold)] = 0
    return probabilities
