"""Checkpoint folders: what is written comes back, and what is wrong is said."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_hub import COMMIT, fake_hub
from safetensors.torch import load_file, save_file

from cascade_clip.checkpoint import description
from cascade_clip.checkpoint.description import read_config
from cascade_clip.checkpoint.folder import checkpoint_folder, read_description, write_description
from cascade_clip.data.catalogue import get_split
from cascade_clip.errors import UserError
from cascade_clip.segmenter import CascadeCLIP

TEXT = torch.nn.functional.normalize(torch.randn(3, 32, generator=torch.Generator().manual_seed(0)), dim=-1)
WEIGHTS = "head.aggregations.0.weights"
ADDED_LATER = {"recipe_and_split_sha256", *description.ADDED_LATER}


@pytest.fixture
def folder(tiny_model: CascadeCLIP, tmp_path) -> Path:
    tiny_model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@torch.no_grad()
def test_a_model_comes_back(tiny_model: CascadeCLIP, folder: Path):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    loaded = CascadeCLIP.from_pretrained(folder)
    assert torch.equal(before, torch.random.get_rng_state())
    image = torch.randn(1, 3, 64, 96)
    assert torch.equal(loaded.network(image, TEXT), tiny_model.network(image, TEXT))
    assert loaded.recipe == tiny_model.recipe
    assert torch.equal(loaded.embed(["road", "tree"]), tiny_model.embed(["road", "tree"]))


def test_the_frozen_tower_is_stored_only_where_it_must_be(tiny_model: CascadeCLIP, folder: Path, tmp_path):
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


def test_split_and_scores_stand_in_the_card(tiny_model: CascadeCLIP, tmp_path):
    model = CascadeCLIP(tiny_model.network, tiny_model.clip, tiny_model.recipe, get_split("voc-seen"))
    model.licence = "cc-by-nc-4.0"
    model.save_pretrained(tmp_path / "voc", scores={"hIoU": 0.877})
    card = (tmp_path / "voc" / "README.md").read_text()
    assert "Unseen (5): pottedplant, sheep, sofa, train, tvmonitor" in card
    assert "| hIoU | 87.7 |" in card
    assert "license: cc-by-nc-4.0" in card
    again = CascadeCLIP.from_pretrained(tmp_path / "voc")
    assert again.licence == "cc-by-nc-4.0"
    split, published = again.split, get_split("voc-seen")
    # The query words of training-free methods mean nothing to a trained model and are not stored.
    assert (split.class_names, split.prompts, split.unseen) == (
        published.class_names,
        published.prompts,
        published.unseen,
    )


def test_a_clip_of_other_words_keeps_its_vocabulary(tmp_path):
    model = CascadeCLIP.from_pretrained("bundled")
    model.save_pretrained(tmp_path / "own", include_clip=True)
    again = CascadeCLIP.from_pretrained(tmp_path / "own")
    assert torch.equal(again.clip.tokenize(["red circle"]), model.clip.tokenize(["red circle"]))


def test_saving_again_replaces_as_a_whole(tiny_model: CascadeCLIP, folder: Path):
    (folder / "clip.safetensors").write_text("stale")
    (folder / "notes.txt").write_text("mine")
    tiny_model.save_pretrained(folder, include_clip=False)
    assert not (folder / "clip.safetensors").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    assert {file.name for file in folder.parent.iterdir()} == {"model"}


def _edit(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return apply


def _edit_clip(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        _edit(clip=config["clip"] | changes)(folder)

    return apply


def _change_tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        save_file({**tensors, name: change(tensors[name])}, folder / "model.safetensors")

    return apply


def _drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[WEIGHTS]
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "export.json").touch(), "holds an exported model, not a checkpoint"),
        (_edit(format_version=99), "has checkpoint format 99, written by cascade-clip"),
        (
            _edit_clip(architecture="bundled", weights=None, stored=False),
            "masks would be wrong. Train the model anew, or use the toolkit's version that trained it.",
        ),
        (
            _edit(recipe={"trian": 1}),
            'config.json", which is damaged or of another version:\n  recipe.trian: unknown key',
        ),
        (lambda folder: (folder / "config.json").unlink(), "is no checkpoint folder: it has no config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), 'model.safetensors" cannot be read'),
        (lambda folder: (folder / "clip.safetensors").unlink(), "cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[" * 5000), "is no valid JSON"),
        (_drop_tensor, "1 missing (head.aggregations.0.weights)"),
        (_change_tensor(WEIGHTS, lambda weights: weights * torch.nan), f"holds NaN or infinite values in {WEIGHTS}"),
        (_change_tensor(WEIGHTS, lambda weights: weights.long()), f"holds no floating-point numbers in {WEIGHTS}"),
        (_edit_clip(model_config={"embed_dim": 32}), "model_config is not what was written here"),
    ],
)
def test_damage_is_told(folder: Path, damage: Callable[[Path], None], message: str):
    damage(folder)
    with pytest.raises(UserError) as caught:
        CascadeCLIP.from_pretrained(folder)
    assert message in str(caught.value)


def test_the_run_folder_instead_of_its_model(folder: Path):
    with pytest.raises(UserError, match=r'is no checkpoint folder: it has no config\.json\. Did you mean ".*/model"\?'):
        CascadeCLIP.from_pretrained(folder.parent)
    with pytest.raises(
        UserError,
        match=r'no/where/here.*does not exist\. A model is a checkpoint folder, ORG/NAME on the Hub or "bundled"',
    ):
        CascadeCLIP.from_pretrained("no/where/here")


EMPTY = {str: 7, int: "7", float: "7", bool: "no", list: "list", dict: [], type(None): [7]}
"""A value of another type for each type of JSON."""


def _places(value: object, place: tuple = ()) -> Iterator[tuple]:
    """Every place of a JSON value below its root, of lists the first entry alone."""
    children = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, child in children:
        yield (*place, key)
        yield from _places(child, (*place, key))


def _changed(config: dict, place: tuple, change: Callable[[Any, Any], None]) -> dict:
    config = copy.deepcopy(config)
    parent = config
    for key in place[:-1]:
        parent = parent[key]
    change(parent, place[-1])
    return config


@pytest.fixture(scope="module")
def config() -> dict:
    """That of the bundled checkpoint."""
    found: dict = json.loads((checkpoint_folder("bundled") / "config.json").read_text())
    return found


def test_every_key_that_is_deleted_or_of_another_type_is_named(config: dict, tmp_path):
    def told(changed: dict) -> str:
        (tmp_path / "config.json").write_text(json.dumps(changed))
        try:
            read_config(tmp_path)
        except UserError as error:
            return str(error)
        return "nothing"

    def retype(parent: Any, key: Any) -> None:
        parent[key] = EMPTY[type(parent[key])]

    def delete(parent: Any, key: Any) -> None:
        del parent[key]

    for place in _places(config):
        in_settings = place[:2] == ("clip", "model_config")
        key = "model_config" if in_settings else ".".join(map(str, place))
        assert key in told(_changed(config, place, retype)), place
        listed = isinstance(place[-1], int)
        if not listed and key not in ADDED_LATER and not any(key.startswith(f"{later}.") for later in ADDED_LATER):
            assert key.rpartition(".")[-1] in told(_changed(config, place, delete)), place


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format_version",), True, 'no "format_version" can be read'),
        (("clip", "sha256"), "0", "clip.sha256: text of the form"),
        (("split", "unseen"), "zzz", "split.unseen: a list is expected (got 'zzz')"),
        (("split", "unseen"), ["zzz"], 'split: unseen: "zzz" is none of the classes.'),
        (("split", "classes", 0, "colour", 0), 256, "split.classes.0.colour.0: at most 255 is expected (got 256)"),
        (("split", "classes", 0, "name"), "yellow circle", '"yellow circle" is listed more than once'),
        (("recipe", "data", "mean", 0), float("nan"), "recipe.data.mean.0: a finite number is expected (got nan)"),
        (("split", "unseen"), ["red circle", "red circle"], "split: unseen: a class is listed more than once"),
        (("clip", "model_config_sha256"), None, "clip.model_config_sha256: text is expected"),
        (("clip", "model_config", "quick_gelu"), False, "model_config is not what was written here"),
    ],
)
def test_values_out_of_range(config: dict, tmp_path, place: tuple, value: object, message: str):
    changed = _changed(config, place, lambda parent, key: parent.__setitem__(key, value))
    (tmp_path / "config.json").write_text(json.dumps(changed))
    with pytest.raises(UserError) as caught:
        read_config(tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value"), [(("recipe", "inference", "seen_bias"), 0.25), (("split", "unseen"), []), (("split",), None)]
)
def test_a_change_of_the_right_type_is_noticed(tmp_path, place: tuple, value: object):
    write_description(tmp_path, read_description(checkpoint_folder("bundled")))
    file = tmp_path / "config.json"
    assert list(tmp_path.iterdir()) == [file]  # the bundled CLIP comes with every installation
    written = json.loads(file.read_text())
    changed = _changed(written, place, lambda parent, key: parent.__setitem__(key, value))
    assert changed != written
    file.write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"config\.json\" was changed after it was written: .*those of the weights"):
        read_config(tmp_path)
    # What an earlier version wrote, or what is changed on purpose.
    del changed["recipe_and_split_sha256"]
    file.write_text(json.dumps(changed))
    read_config(tmp_path)


def test_what_later_versions_added_may_be_missing(config: dict, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    whole = read_config(tmp_path)
    for key in ADDED_LATER:
        config = _changed(config, tuple(key.split(".")), lambda parent, name: parent.pop(name, None))
    (tmp_path / "config.json").write_text(json.dumps(config))
    # The bundled model is self-trained, of which a file without the key knows nothing.
    assert read_config(tmp_path).recipe == whole.recipe.changed(self_training=None)


def test_an_update_on_the_hub_is_seen_and_the_cache_serves_offline(tmp_path, monkeypatch):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("first")
    with fake_hub(org__model=model) as hub:
        hub.take_the_hubs_place(monkeypatch, tmp_path)
        assert (checkpoint_folder("org/model") / "config.json").read_text() == "first"
        checkpoint_folder("org/model")
        assert sum(verb == "GET" and path.endswith("config.json") for verb, path, _ in hub.requests) == 1
        hub.commit = "6" * 40
        (model / "config.json").write_text("second")
        assert (checkpoint_folder("org/model") / "config.json").read_text() == "second"
        assert (checkpoint_folder("org/model", COMMIT) / "config.json").read_text() == "first"
        with pytest.raises(UserError, match=r'The model "org/model" on the Hub has no revision "v9"\.'):
            CascadeCLIP.from_pretrained("org/model", revision="v9")
    # The server is gone now.
    assert (checkpoint_folder("org/model") / "config.json").read_text() == "second"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert (checkpoint_folder("org/model") / "config.json").read_text() == "second"
    with pytest.raises(UserError, match='"org/other" is not in the cache, and the Hub cannot be asked while HF'):
        checkpoint_folder("org/other")


def test_folders_are_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    assert checkpoint_folder("runs/one") == Path("runs/one")
    assert checkpoint_folder("./missing") == Path("missing")
    with pytest.raises(UserError, match='are of models on the Hub, but "runs/one" is a folder'):
        checkpoint_folder("runs/one", "v1")
    assert (checkpoint_folder("bundled") / "config.json").is_file()
