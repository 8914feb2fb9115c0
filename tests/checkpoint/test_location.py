"""Checkpoints on the Hub: seen anew at every start, and found in the cache without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_hub import COMMIT, fake_hub

from cascade_clip import CascadeCLIP
from cascade_clip.checkpoint.location import checkpoint_folder
from cascade_clip.errors import UserError


def test_an_update_on_the_hub_is_seen_and_the_cache_serves_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("first")
    with fake_hub(org__model=model, org__gated=model) as hub:
        hub.take_the_hubs_place(monkeypatch, tmp_path)
        assert (checkpoint_folder("org/model") / "config.json").read_text() == "first"
        checkpoint_folder("org/model")
        assert sum(verb == "GET" and path.endswith("config.json") for verb, path, _ in hub.requests) == 1
        hub.commit = "6" * 40
        (model / "config.json").write_text("second")
        assert (checkpoint_folder("org/model") / "config.json").read_text() == "second"
        assert (checkpoint_folder("org/model", COMMIT) / "config.json").read_text() == "first"
        hub.gated.add("org/gated")
        for name, revision, message in (
            ("org/none", None, r'no folder "org/none", .* "org/none" is not on the Hub, or is private: check the name'),
            ("org/model", "v9", r'The model "org/model" on the Hub has no revision "v9"\.'),
            (
                "org/gated",
                None,
                r'"org/gated" asks for its terms to be accepted: .*\.co/org/gated, then log in',
            ),
        ):
            with pytest.raises(UserError, match=message):
                CascadeCLIP.from_pretrained(name, revision=revision)
    # The server is gone now.
    assert (checkpoint_folder("org/model") / "config.json").read_text() == "second"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert (checkpoint_folder("org/model") / "config.json").read_text() == "second"
    with pytest.raises(UserError, match='"org/other" is not in the cache, and the Hub cannot be asked while HF'):
        checkpoint_folder("org/other")


def test_folders_are_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    assert checkpoint_folder("runs/one") == Path("runs/one")
    assert checkpoint_folder("./missing") == Path("missing")
    with pytest.raises(UserError, match='are of models on the Hub, but "runs/one" is a folder'):
        checkpoint_folder("runs/one", "v1")
    assert (checkpoint_folder("bundled") / "config.json").is_file()
