"""Devices by name, and work that no machine can hold."""

import os
import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from cascade_clip import runtime
from cascade_clip.analysis.layer_similarity import SimilaritySettings, layer_similarities
from cascade_clip.analysis.layer_tokens import ImageSet
from cascade_clip.analysis.observed_model import observed_model
from cascade_clip.config.recipes import change_recipe
from cascade_clip.config.schema import Recipe
from cascade_clip.errors import UserError
from cascade_clip.model.build import build_network
from cascade_clip.model.clip.load import Clip
from cascade_clip.runtime import check_memory, process_state, resolve_device
from cascade_clip.segmenter import CascadeCLIP
from cascade_clip.training.start import start_training


@pytest.mark.parametrize(
    "name",
    ["cpu:7", "cpu:00", "cpu:", "mps:1", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "cuda:1:2", "", " ", "CPU", "tpu"],
)
def test_names_that_are_no_device(name: str):
    hint = (
        "Only CUDA devices have numbers."
        if name.startswith(("cpu:", "mps:"))
        else "Known: auto, cpu, cuda, cuda:N, mps."
    )
    with pytest.raises(UserError, match=re.escape(f'"{name}" is no device. {hint}')):
        resolve_device(name)


def test_devices_that_this_machine_lacks(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:0", "cuda:99", "mps"):
        with pytest.raises(UserError, match=f'The device "{name}" is not available'):
            resolve_device(name)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")


def test_a_device_is_not_that_of_an_earlier_run():
    assert process_state(torch.device("cpu"))._cpu
    assert not process_state(torch.device("cuda"))._cpu
    assert process_state(torch.device("cpu"))._cpu


def test_the_memory_of_a_container_counts(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("2000000000\n")
    (tmp_path / "unlimited").write_text("max\n")
    places = (tmp_path / "memory.max", tmp_path / "unlimited", tmp_path / "none")
    monkeypatch.setattr(runtime, "_MEMORY_LIMITS", places)
    check_memory(2_000_000_000, "It", "lower it")
    with pytest.raises(
        UserError, match=r"^It takes at least 3\.0 GB of memory, and this machine has 2\.0 GB: lower it\.$"
    ):
        check_memory(3_000_000_000, "It", "lower it")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.batch=10000000"], "A step's batch of 10,000,000 crops of 64 x 64 pixels takes at least 532.5 GB"),
        (["data.short_side=2000000000"], "A validation image of at least 2,000,000,000 x 2,000,000,000 pixels takes"),
        (["data.crop=4096"], "The training crop of 4,096 x 4,096 pixels has 65,536 patches"),
        (["model.prompts.tokens=1000000000"], "The recipe's model takes at least"),
        (["model.decoders_per_stage=1000000000"], "lower model.prompts.tokens, model.decoders_per_stage"),
        (["model.host=spt-seg", "model.spectral.grid=10000000"], "The recipe's model takes at least"),
    ],
)
def test_training_beyond_the_memory(squares_recipe: Recipe, tmp_path, settings: Sequence[str], message: str):
    with pytest.raises(UserError) as caught:
        start_training(change_recipe(squares_recipe, settings), tmp_path / "run", device="cpu")
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_inference_and_analysis_beyond_the_memory(tiny_model: CascadeCLIP):
    image = np.zeros((64, 96, 3), np.uint8)
    recipe = tiny_model.recipe
    wide = CascadeCLIP(tiny_model.network, tiny_model.clip, recipe.changed(data={"short_side": 10**7}))
    with pytest.raises(UserError, match=r"96 x 64 pixels, resized to 15,000,000 x 10,000,000, takes at least"):
        wide.predictor().set_image(image)
    large = recipe.changed(inference={"crop": 10**7})
    with pytest.raises(UserError, match="4 windows of 10,000,000 x 10,000,000 pixels takes at least"):
        CascadeCLIP(tiny_model.network, tiny_model.clip, large).compile(torch.ones(2, 32))
    images, model = ImageSet("images", 20, lambda _: image), observed_model(tiny_model, "x", "x")
    with pytest.raises(UserError, match="A batch of 20 images of 1,000,000 x 1,000,000 pixels takes at least"):
        layer_similarities(model, images, SimilaritySettings(side=10**6))


def test_a_model_that_fits_is_built(tiny_recipe: Recipe, tiny_clip: Clip, monkeypatch):
    asked = []
    monkeypatch.setattr("cascade_clip.model.build.check_memory", lambda needed, *_: asked.append(needed))
    network = build_network(tiny_recipe.model, tiny_clip.visual)
    assert 0 < asked[0] <= 4 * sum(tensor.numel() for tensor in network.own_tensors().values())


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 6), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 6), ("?", 6)]
)
def test_cores_of_a_job_and_of_a_container(monkeypatch, tmp_path, limit: str, cores: int):
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    monkeypatch.setattr(runtime, "_PROCESSOR_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(6)))
    assert runtime.usable_cores() == cores
