"""Checkpoint folders: what is written comes back, and what is wrong is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.segmenter import CascadeCLIP

TEXT = torch.nn.functional.normalize(torch.randn(3, 32, generator=torch.Generator().manual_seed(0)), dim=-1)
OTHER_CLIP = {"architecture": "bundled", "weights": None, "stored": False, "sha256": "0"}


@pytest.fixture
def folder(tiny_model: CascadeCLIP, tmp_path: Path) -> Path:
    tiny_model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@torch.no_grad()
def test_a_model_comes_back(tiny_model: CascadeCLIP, folder: Path) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    loaded = CascadeCLIP.from_pretrained(folder)
    assert torch.equal(before, torch.random.get_rng_state())
    image = torch.randn(1, 3, 64, 96)
    assert torch.equal(loaded.network(image, TEXT), tiny_model.network(image, TEXT))
    assert loaded.recipe == tiny_model.recipe
    assert torch.equal(loaded.embed(["road", "tree"]), tiny_model.embed(["road", "tree"]))


def test_the_frozen_tower_is_stored_only_where_it_must_be(
    tiny_model: CascadeCLIP, folder: Path, tmp_path: Path
) -> None:
    files = {file.name for file in folder.iterdir()}
    assert files == {"config.json", "model.safetensors", "clip.safetensors", "README.md"}
    # Others may read it.
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}
    assert folder.stat().st_mode & 0o777 == 0o755
    assert not any(name.startswith("encoder.visual") for name in load_file(folder / "model.safetensors"))
    tiny_model.save_pretrained(tmp_path / "lean", include_clip=False)
    assert not (tmp_path / "lean" / "clip.safetensors").exists()
    reloaded = CascadeCLIP.from_pretrained(tmp_path / "lean")
    assert reloaded.clip.identity.sha256 == tiny_model.clip.identity.sha256


def test_split_and_scores_stand_in_the_card(tiny_model: CascadeCLIP, tmp_path: Path) -> None:
    model = CascadeCLIP(tiny_model.network, tiny_model.clip, tiny_model.recipe, get_split("voc-seen"))
    model.save_pretrained(tmp_path / "voc", scores={"hIoU": 0.877})
    card = (tmp_path / "voc" / "README.md").read_text()
    assert "Unseen (5): pottedplant, sheep, sofa, train, tvmonitor" in card
    assert "| hIoU | 87.7 |" in card
    assert "license: apache-2.0" in card
    assert CascadeCLIP.from_pretrained(tmp_path / "voc").split == get_split("voc-seen")


def test_saving_again_replaces_as_a_whole(tiny_model: CascadeCLIP, folder: Path) -> None:
    (folder / "clip.safetensors").write_text("stale")
    (folder / "notes.txt").write_text("mine")
    tiny_model.save_pretrained(folder, include_clip=False)
    assert not (folder / "clip.safetensors").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert {file.name for file in folder.parent.iterdir()} == {"model"}


@pytest.mark.parametrize("entry", ["thesis.tex", "config.json", ".git/HEAD"])
def test_nothing_is_saved_over_other_files(tiny_model: CascadeCLIP, tmp_path: Path, entry: str) -> None:
    """Also not over another library's model, which has files of the same names."""
    (tmp_path / entry).parent.mkdir(exist_ok=True)
    (tmp_path / entry).write_text('{"architectures": ["BertModel"], "format_version": 1}')
    (tmp_path / "model.safetensors").write_text("weights")
    with pytest.raises(UserError, match=r"is not empty and holds no checkpoint \(there is"):
        tiny_model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r'model\.safetensors" is a file, a folder is expected'):
        tiny_model.save_pretrained(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_text() == "weights"
    assert len(list(tmp_path.iterdir())) == 2


def _edit(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return apply


def _drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["head.aggregations.0.weights"]
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_edit(format_version=99), "has checkpoint format 99, written by cascade-clip"),
        (
            _edit(clip={"architecture": "bundled", "weights": None, "stored": False, "sha256": "0"}),
            "are not those that",
        ),
        (_edit(recipe={"trian": 1}), 'config.json", which is damaged or of another version:\n  trian: unknown key'),
        (lambda folder: (folder / "config.json").unlink(), "is no checkpoint folder: it has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{}"), 'no "format_version" can be read'),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), 'model.safetensors" cannot be read'),
        (lambda folder: (folder / "clip.safetensors").unlink(), "cannot be read"),
        (_drop_tensor, "1 missing (head.aggregations.0.weights)"),
    ],
)
def test_damage_is_told(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder)
    with pytest.raises(UserError) as caught:
        CascadeCLIP.from_pretrained(folder)
    assert message in str(caught.value)


def test_the_run_folder_instead_of_its_model(folder: Path) -> None:
    with pytest.raises(UserError, match=r'is no checkpoint folder: it has no config\.json\. Did you mean ".*/model"\?'):
        CascadeCLIP.from_pretrained(folder.parent)
    with pytest.raises(UserError, match=r"no/where/here.*does not exist"):
        CascadeCLIP.from_pretrained("no/where/here")
