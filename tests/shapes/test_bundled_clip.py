"""The CLIP in the wheel: small, loadable by open_clip alone, and worth aligning."""

import json
from importlib import resources
from pathlib import Path

import open_clip
import pytest
from zero_shot import class_embeddings, held_out_scenes, naming_accuracy, patch_localisation

from cascade_clip.shapes.classes import CLASS_NAMES

FOLDER = Path(str(resources.files("cascade_clip") / "bundled" / "clip"))


@pytest.fixture(scope="module")
def model():
    return open_clip.create_model(f"local-dir:{FOLDER}").eval()


@pytest.fixture(scope="module")
def text(model, tokenizer):
    return class_embeddings(model, tokenizer)


@pytest.fixture(scope="module")
def tokenizer():
    config = json.loads((FOLDER / "open_clip_config.json").read_text())
    context = config["model_cfg"]["text_cfg"]["context_length"]
    return open_clip.SimpleTokenizer(bpe_path=str(FOLDER / "bpe.txt.gz"), context_length=context)


def test_folder_is_whole_and_small():
    names = {file.name for file in FOLDER.iterdir()}
    assert names == {"README.md", "open_clip_config.json", "open_clip_model.safetensors", "bpe.txt.gz"}
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 12_000_000


def test_any_text_encodes(tokenizer):
    tokens = tokenizer(["a photo of a giraffe", "façade & Москва"])
    assert tokens.shape == (2, tokenizer.context_length)
    assert int(tokens.max()) == tokenizer.eot_token_id < tokenizer.vocab_size


def test_scenes_it_never_saw_are_named(model, text):
    """The floor stands well below the model card's figures, which are of 2000 scenes."""
    assert text.shape == (len(CLASS_NAMES), 128)
    naming = naming_accuracy(model, text, held_out_scenes(80))
    assert naming.stuff >= 0.95
    assert naming.both >= 0.93
    assert naming.unseen >= 0.93


def test_patches_localise_stuff_better_than_chance(model, text):
    _, stuff = patch_localisation(model, text, held_out_scenes(20, dense=True))
    assert stuff > 0.3
