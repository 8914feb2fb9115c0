"""A large weights file is read whole and hashed once, and again after any change."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import nn

from cascade_clip.errors import UserError
from cascade_clip.model.clip import known_weights, load
from cascade_clip.model.clip.known_weights import KnownWeights
from cascade_clip.segmenter import CascadeCLIP

HASH = "0123456789abcdef" * 4


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CASCADE_CLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_weights, "LEAST_BYTES", 1)
    monkeypatch.setattr(known_weights, "SETTLED", 0)
    file = tmp_path / "clip.safetensors"
    file.write_bytes(b"weights")
    KnownWeights(file, {"layers": 1}).remember(HASH)
    return file


def _replace(file: Path) -> None:
    other = file.with_suffix(".new")
    other.write_bytes(b"WEIGHTS")
    other.replace(file)


def _rewrite(file: Path) -> None:
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=times)


@pytest.mark.parametrize(
    "change",
    [_replace, _rewrite, Path.unlink, lambda file: next(file.with_name("cache").rglob("clip/*")).write_text("no hash")],
)
def test_a_hash_is_remembered_until_the_file_changes(file: Path, change: Callable[[Path], object], monkeypatch):
    assert KnownWeights(file, {"layers": 1}).sha256() == HASH
    assert KnownWeights(file, {"layers": 2}).sha256() is None, "other settings make another model of it"
    with monkeypatch.context() as later:
        later.setattr("cascade_clip.__version__", "later")
        assert KnownWeights(file, {"layers": 1}).sha256() is None
    change(file)
    assert KnownWeights(file, {"layers": 1}).sha256() is None


@pytest.mark.parametrize(("name", "value"), [("LEAST_BYTES", 100), ("SETTLED", 60)])
def test_small_and_new_files_are_read_each_time(file: Path, monkeypatch, name: str, value: float):
    monkeypatch.setattr(known_weights, name, value)
    os.utime(file, (0, 0))  # as a copy that keeps the times has them
    known = KnownWeights(file, {"layers": 3})
    known.remember(HASH)
    assert known.sha256() is None


def test_a_cache_that_cannot_be_written_is_done_without(file: Path, monkeypatch):
    monkeypatch.setenv("CASCADE_CLIP_CACHE", str(file / "cache"))
    known = KnownWeights(file, {"layers": 1})
    known.remember(HASH)
    assert known.sha256() is None


@pytest.mark.usefixtures("file")
def test_a_checkpoint_hashes_its_clip_once(tiny_model: CascadeCLIP, tmp_path, monkeypatch):
    """The second time only what is needed of it is read; another CLIP at its place is refused as ever."""
    tiny_model.save_pretrained(tmp_path / "model")
    stored = tmp_path / "model" / "clip.safetensors"
    hashes: list[str] = []
    hash_of_weights = load.hash_of_weights

    def counted(model: nn.Module) -> str:
        hashes.append(hash_of_weights(model))
        return hashes[-1]

    monkeypatch.setattr(load, "hash_of_weights", counted)
    for _ in range(2):
        assert CascadeCLIP.from_pretrained(tmp_path / "model").clip.identity == tiny_model.clip.identity
    assert hashes == [tiny_model.clip.identity.sha256]
    save_file({name: tensor + 1 for name, tensor in load_file(stored).items()}, stored)
    with pytest.raises(UserError, match="are not those that"):
        CascadeCLIP.from_pretrained(tmp_path / "model")
