"""The Python face: what `segment` takes and refuses."""

import gc
import subprocess
import sys
import weakref
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from two_blocks import two_block_model

import cascade_clip
from cascade_clip import CascadeCLIP, segmenter
from cascade_clip.config.schema import Recipe
from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 255, (70, 110, 3), dtype=np.uint8)


def test_all_kinds_of_images_agree(tiny_model: CascadeCLIP, tmp_path):
    file = tmp_path / "photo.png"
    Image.fromarray(PIXELS).save(file)
    given = [file, str(file), file.read_bytes(), Image.open(file), PIXELS]
    results = tiny_model.segment(given, ["road", "tree"])
    assert len(results) == len(given)
    for result in results[1:]:
        assert np.array_equal(result.labels, results[0].labels)
        assert np.array_equal(result.scores, results[0].scores)
    with pytest.raises(UserError, match=r"An image is a path, .* got int"):
        tiny_model.segment(3, ["road"])


def test_embeddings_instead_of_names(tiny_model: CascadeCLIP):
    text = tiny_model.embed(["road", "tree"])
    by_name = tiny_model.segment(PIXELS, ["road", "tree"])[0]
    by_embedding = tiny_model.segment(PIXELS, text_embeddings=text)[0]
    assert np.array_equal(by_name.labels, by_embedding.labels)
    assert by_embedding.classes == ("class 0", "class 1")
    assert tiny_model.segment(PIXELS, ["a", "b"], text_embeddings=text)[0].classes == ("a", "b")


def test_a_split_takes_the_bias_from_seen_classes(tiny_model: CascadeCLIP):
    """With names, or with embeddings in place of a text tower, which an imported model may lack."""
    split = get_split("voc-seen")
    by_name = tiny_model.segment(PIXELS, split="voc-seen")[0]
    names = tiny_model.segment(PIXELS, split.class_names)[0]
    won = np.isin(by_name.labels, split.unseen_indices)
    assert won.sum() >= np.isin(names.labels, split.unseen_indices).sum()
    np.testing.assert_allclose(by_name.scores[~won], names.scores[~won] - 0.1, atol=1e-6)
    given = {"split": split, "text_embeddings": tiny_model.text_embeddings_for(split)}
    towerless = copy(tiny_model)
    towerless.clip = replace(tiny_model.clip, tokenize=None)
    by_embedding = towerless.segment(PIXELS, **given)[0]
    assert np.array_equal(by_embedding.labels, by_name.labels)
    assert np.array_equal(by_embedding.scores, by_name.scores)
    assert by_embedding.classes == split.class_names
    assert tiny_model.vocabulary(**given).seen.tolist() == [name not in split.unseen for name in split.class_names]


def test_without_classes_those_it_was_trained_on_are_looked_for():
    model = CascadeCLIP.from_pretrained("bundled")
    found = model.segment(PIXELS)[0]
    assert found.classes == model.split.class_names
    assert np.array_equal(found.scores, model.segment(PIXELS, split=model.split)[0].scores)
    with pytest.raises(UserError, match=r"^Say what to look for: give either classes="):
        CascadeCLIP.from_pretrained("dense:bundled").segment(PIXELS)


def test_moved_to_another_device_and_precision(tiny_recipe: Recipe, tmp_path):
    model = two_block_model(tiny_recipe, tmp_path)
    before = model.segment(PIXELS)[0]
    assert model.to(torch.device("cpu"), precision="bf16") is model
    assert model.dtype == torch.bfloat16
    with pytest.raises(UserError, match='"fp16" needs a GPU'):
        model.to("cpu", precision="fp16")
    with pytest.raises(UserError, match='"tpu" is no device'):
        model.to("tpu")
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.bfloat16)
    assert np.array_equal(model.to("cpu", precision="fp32").segment(PIXELS)[0].labels, before.labels)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Say what to look for"),
        ({"classes": ["a"], "split": "voc", "text_embeddings": torch.ones(1, 32)}, "Say what to look for"),
        ({"split": "voc", "text_embeddings": torch.ones(2, 32)}, "For 20 classes text embeddings of shape"),
        ({"classes": "road"}, 'classes is one string, "road": give a list of names'),
        ({"classes": ["a", 7]}, "A class is named by text; got 7 among the classes."),
        ({"classes": ["a"], "threshold": 7}, "The threshold is 7; scores, and so thresholds, are 0 to 1."),
        ({"text_embeddings": torch.ones(2, 7)}, "shape (2, 7) do not fit: (classes, 32) is expected"),
        ({"text_embeddings": torch.full((2, 32), torch.nan)}, "hold values that are NaN or infinite"),
        ({"classes": ["a"], "text_embeddings": torch.ones(2, 32)}, "For 1 class text embeddings of shape"),
    ],
)
def test_vocabularies_that_are_refused(tiny_model: CascadeCLIP, given: dict, message: str):
    with pytest.raises(UserError) as caught:
        tiny_model.segment(PIXELS, **given)
    assert message in str(caught.value)
    with pytest.raises(UserError, match=r"shape \(70, 110\) and type uint8 does not fit"):
        tiny_model.segment(PIXELS[..., 0], ["a"])


def test_uploads_while_offline_and_no_checkpoint_at_all_are_sentences(tiny_model: CascadeCLIP, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match='"me/tiny" cannot be uploaded to while HF_HUB_OFFLINE is set: unset it'):
        tiny_model.push_to_hub("me/tiny")
    with pytest.raises(UserError, match='The checkpoint "None" cannot be used'):
        CascadeCLIP.from_pretrained(None)  # type: ignore[arg-type]


def test_push_to_hub(tiny_model: CascadeCLIP, monkeypatch):
    """The whole checkpoint folder is uploaded to a repository that is made first."""
    calls: list[tuple] = []

    class Hub:
        def create_repo(self, repo_id: str, **options: object) -> str:
            calls.append((repo_id, options))
            return f"https://hub/{repo_id}"

        def upload_folder(self, *, repo_id: str, folder_path: Path, revision: str | None) -> None:
            calls.append((repo_id, sorted(file.name for file in Path(folder_path).iterdir()), revision))

    monkeypatch.setattr(segmenter, "HfApi", Hub)
    assert tiny_model.push_to_hub("me/tiny", private=True, revision="v1") == "https://hub/me/tiny"
    assert calls == [
        ("me/tiny", {"private": True, "exist_ok": True}),
        ("me/tiny", ["README.md", "clip.safetensors", "config.json", "model.safetensors"], "v1"),
    ]


def test_the_public_names_cost_no_torch_until_they_are_used():
    code = """
import sys, cascade_clip
from cascade_clip import UserError, get_split, load_recipe
get_split("voc-seen"), load_recipe("voc/zegclip")
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    names = {name for name in dir(cascade_clip) if not name.startswith("__")}
    assert names == {"CascadeCLIP", "Segmentation", "UserError", "evaluate", "get_split", "load_recipe", "train"}
    assert all(callable(getattr(cascade_clip, name)) for name in names)


def test_a_released_text_tower(tiny_recipe: Recipe, tmp_path):
    """Known vocabularies still work, others and saving say what to do; nothing holds the tower any more."""
    model = two_block_model(tiny_recipe, tmp_path)
    image = np.zeros((64, 64, 3), np.uint8)
    before = model.segment(image, split=model.split)[0]
    tower = weakref.ref(model.clip.model.transformer)
    model.release_text_tower()
    gc.collect()
    assert tower() is None
    assert np.array_equal(model.segment(image, split=model.split)[0].labels, before.labels)
    with pytest.raises(UserError, match="text tower was released: load the model again to look for other classes"):
        model.segment(image, classes=["unheard of"])
    with pytest.raises(UserError, match="text tower was released: load the model again to save it"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
