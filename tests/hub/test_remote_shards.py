"""Streaming a prepared dataset: the same samples as from a folder, whatever the network does."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pytest
import torch
from fake_hub import COMMIT, FakeHub, fake_hub
from safetensors.torch import load_file

from cascade_clip.config.schema import DataConfig, Recipe
from cascade_clip.config.location import as_location
from cascade_clip.data.dataset_location import locate_dataset
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.samples import TrainSamples, train_loader
from cascade_clip.data.transforms import TrainTransform
from cascade_clip.errors import UserError
from cascade_clip.data import records
from cascade_clip.data.dataset_location import dataset_folder
from cascade_clip.data.hub_address import HubAddress
from cascade_clip.data.remote_files import RemoteFiles
from cascade_clip.training.start import start_training

CONFIG = DataConfig(short_side=32, long_side=128, crop=32)
SHARD = "data/train-00000-of-00001.parquet"


@pytest.fixture
def hub(squares: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A server of byte ranges; its files are an `https://` address like any other."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    with fake_hub(org__squares=squares) as running:
        yield running


@pytest.fixture
def address(hub: FakeHub) -> str:
    return f"{hub.endpoint}/datasets/org/squares/resolve/main"


def _open(address: str) -> PreparedDataset:
    return PreparedDataset.open(dataset_folder(address, stream=True))


def _stream(dataset: PreparedDataset, **options: int) -> list[dict[str, torch.Tensor]]:
    samples = TrainSamples(dataset, TrainTransform(CONFIG), seed=5)
    return list(train_loader(samples, steps=5, batch=6, **options))  # type: ignore[arg-type]


def _assert_same(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> None:
    assert [batch["id"] for batch in one] == [batch["id"] for batch in other]
    for first, second in zip(one, other, strict=True):
        assert torch.equal(first["image"], second["image"])
        assert torch.equal(first["label"], second["label"])


def test_records_equal_those_of_the_folder(squares: Path, address: str) -> None:
    local, remote = PreparedDataset.open(squares), _open(address)
    assert (remote.name, remote.class_names, remote.place) == (local.name, local.class_names, address)
    for part in ("train", "val"):
        assert remote.count(part) == local.count(part)
        for index in reversed(range(local.count(part))):
            assert remote.read(part, index) == local.read(part, index)
    with pytest.raises(IndexError, match="train has 10 images"):
        remote.read("train", 10)


def test_any_file_system_of_fsspec_will_do(squares: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(squares), "/bucket/squares", recursive=True)
    try:
        remote = _open("memory://bucket/squares")
        assert remote.read("val", 2) == PreparedDataset.open(squares).read("val", 2)
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_samples_equal_those_of_the_folder_position_by_position(
    squares: Path, address: str, workers: int
) -> None:
    local = _stream(PreparedDataset.open(squares), start_step=0)
    _assert_same(local, _stream(_open(address), start_step=0, workers=workers))


def test_a_resumed_stream_goes_on_where_it_stopped(squares: Path, address: str) -> None:
    local = _stream(PreparedDataset.open(squares), start_step=0)
    _assert_same(local[2:], _stream(_open(address), start_step=2, workers=1))


def test_training_from_a_stream_gives_the_same_weights_and_resumes(
    squares_recipe: Recipe, address: str, tmp_path: Path
) -> None:
    def run(folder: Path, recipe: Recipe, **options: bool) -> dict[str, torch.Tensor]:
        start_training(recipe, folder, device="cpu", **options).train(resume=options.get("resume", False))
        return load_file(folder / "model" / "model.safetensors")

    streamed_data = squares_recipe.data.model_copy(update={"dataset": address, "stream": True})
    streamed = squares_recipe.model_copy(update={"data": streamed_data})
    expected = run(tmp_path / "local", squares_recipe)
    found = run(tmp_path / "streamed", streamed)
    shutil.rmtree(tmp_path / "streamed" / "state" / "step-00000006")
    resumed = run(tmp_path / "streamed", streamed, resume=True)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
        assert torch.equal(tensor, resumed[name]), name
    assert f'dataset = "{address}"' in (tmp_path / "streamed" / "recipe.toml").read_text()


def test_reading_in_order_asks_once_for_each_row_group(hub: FakeHub, address: str) -> None:
    remote = _open(address)
    for index in range(10):
        remote.read("train", index)
    assert len(hub.data_requests()) == 3  # the footer and two row groups
    assert all(part is not None for _, part in hub.data_requests())


def test_few_row_groups_stay_in_memory(hub: FakeHub, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "KEPT_BYTES", 1)
    remote = _open(address)
    for index in (0, 1, 9, 0):
        remote.read("train", index)
    assert len(hub.data_requests()) == 4


def test_a_footer_longer_than_guessed_is_asked_for_again(
    hub: FakeHub, squares: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_FOOTER_GUESS", 16)
    assert _open(address).read("train", 9) == PreparedDataset.open(squares).read("train", 9)
    assert len(hub.data_requests()) == 3


def test_a_pickled_dataset_reads_on(squares: Path, address: str) -> None:
    remote = _open(address)
    remote.read("train", 0)
    assert pickle.loads(pickle.dumps(remote)).read("val", 1) == PreparedDataset.open(squares).read("val", 1)


def test_failures_that_pass_are_not_noticed(squares: Path, hub: FakeHub, address: str) -> None:
    remote = _open(address)
    hub.failures += [503, "cut", 429, 500, "cut"]
    assert remote.read("train", 3) == PreparedDataset.open(squares).read("train", 3)
    assert not hub.failures


def test_failures_that_stay_are_one_sentence(hub: FakeHub, address: str) -> None:
    remote = _open(address)
    hub.failures += [503] * 20
    with pytest.raises(UserError, match=rf"{SHARD} could not be read in 7 attempts: HTTP 503\. Check the network"):
        remote.read("train", 3)
    hub.failures[:] = ["cut"] * 20
    with pytest.raises(UserError, match="could not be read in 7 attempts: "):
        remote.read("train", 3)
    hub.failures[:] = [403]
    with pytest.raises(UserError, match=r"may not be read \(HTTP 403\).*`hf auth login`"):
        remote.read("train", 3)
    hub.failures[:] = [418]
    with pytest.raises(UserError, match="its server answers HTTP 418"):
        remote.read("train", 3)


def test_a_server_that_is_gone_is_one_sentence(squares: Path, hub: FakeHub) -> None:
    nowhere = RangeFiles("http://127.0.0.1:9", retries=1)
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/dataset\.json could not be read in 2 attempts"):
        nowhere.read("dataset.json")


def test_a_server_of_whole_files_is_refused(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(squares)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        remote = _open(f"http://127.0.0.1:{server.server_port}/")
        with pytest.raises(UserError, match="cannot be streamed: its server sends whole files only"):
            remote.read("train", 0)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_damaged_replaced_and_missing_shards_are_named(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(squares, tmp_path / "squares")
    remote = _open(f"file://{folder}")
    shard = folder / SHARD
    content = shard.read_bytes()
    for changed in (
        content[:2000] + bytes([content[2000] ^ 255]) + content[2001:],
        content[:-8] + bytes(8),
        content[:-1] + b"?",
    ):
        shard.write_bytes(changed)
        with pytest.raises(UserError, match=rf"The shard file://.*{SHARD} is damaged or was replaced \("):
            pickle.loads(pickle.dumps(remote)).read("train", 0)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    shard.write_bytes(content[:-100])
    with pytest.raises(UserError, match=rf"{SHARD} could not be read in 7 attempts: \d+ bytes came instead of \d+"):
        remote.read("train", 0)
    shard.unlink()
    with pytest.raises(UserError, match=rf"{SHARD} is not there\. Check the address"):
        remote.read("train", 0)


def test_addresses_that_hold_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"file://.* is no prepared dataset: it has no dataset\.json"):
        dataset_folder(f"file://{tmp_path}", stream=True)
    (tmp_path / "dataset.json").write_text('{"name": "other"}')
    with pytest.raises(UserError, match=r"is no prepared dataset: its dataset\.json is none of ours"):
        dataset_folder(f"file://{tmp_path}", stream=True)
    with pytest.raises(UserError, match="is not on this machine: add --stream"):
        dataset_folder("https://example.org/squares")
    with pytest.raises(UserError, match="telepathy://x is no address that can be read"):
        dataset_folder("telepathy://x", stream=True)
    with pytest.raises(UserError, match=r'"hub:a/b/c" is no dataset on the Hub: hub:ORG/NAME is expected'):
        dataset_folder("hub:a/b/c")


def test_a_damaged_link_says_what_to_do(address: str) -> None:
    folder = dataset_folder(address, stream=True)
    (folder / "link.json").write_text('{"kind": "rows"}')
    with pytest.raises(UserError, match=r"link\.json is damaged: delete "):
        PreparedDataset.open(folder)


def test_addresses_stay_as_they_are_written() -> None:
    assert DataConfig(dataset="hub:org/name@v1").dataset == "hub:org/name@v1"
    assert DataConfig(dataset="https://example.org/x").dataset == "https://example.org/x"
    assert DataConfig(dataset="some/folder").dataset == Path("some/folder")  # type: ignore[arg-type]
    assert as_location(Path("x")) == Path("x")
    assert HubAddress.parse("hf://datasets/org/name@main") == HubAddress("org/name", "main")
    assert HubAddress.parse("hub:squad") == HubAddress("squad")
    assert HubAddress.parse("org/name") is None


def test_a_split_is_read_from_an_address(squares: Path, address: str) -> None:
    folder = locate_dataset("squares", address, stream=True)
    assert PreparedDataset.open(folder).read("val", 0) == PreparedDataset.open(squares).read("val", 0)


HUB_SESSION = """
import json, sys
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.dataset_location import dataset_folder
from cascade_clip.errors import UserError

said = []
for data, stream in json.loads(sys.argv[1]):
    try:
        dataset = PreparedDataset.open(dataset_folder(data, stream=stream))
        said.append([dataset.place, [dataset.read("train", index).id for index in (9, 0, 4)]])
    except UserError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def _on_the_hub(hub: FakeHub, home: Path, asked: list[tuple[str, bool]], **more: str) -> list[list[object] | str]:
    """Open datasets in a process whose Hub is the fake one."""
    surroundings = {**os.environ, **hub.environment(home), **more}
    command = [sys.executable, "-c", HUB_SESSION, json.dumps(asked)]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True)
    found: list[list[object] | str] = json.loads(done.stdout)
    return found


def test_datasets_of_the_hub_are_streamed_and_downloaded(hub: FakeHub, tmp_path: Path) -> None:
    streamed, downloaded = _on_the_hub(hub, tmp_path, [("hub:org/squares", True), ("hub:org/squares@main", False)])
    assert streamed == [f"hub:org/squares@{COMMIT}", ["t9", "t0", "t4"]]
    assert downloaded[1] == ["t9", "t0", "t4"]
    assert str(downloaded[0]).endswith(f"snapshots/{COMMIT}")
    whole = [path for path, part in hub.data_requests() if part is None]
    assert sorted(path.rpartition("/")[2][:3] for path in whole) == ["tra", "val"]
    offline, still_there = _on_the_hub(
        hub, tmp_path, [("hub:org/squares", True), ("hub:org/squares@main", False)], HF_HUB_OFFLINE="1"
    )
    assert (
        offline == f"hub:org/squares@{COMMIT} cannot be read while HF_HUB_OFFLINE is set: unset it, or give a folder."
    )
    assert still_there == downloaded


def test_what_the_hub_refuses_is_one_sentence(hub: FakeHub, tmp_path: Path) -> None:
    hub.private.add("org/squares")
    private, unknown = _on_the_hub(hub, tmp_path, [("hub:org/squares", True), ("hub:org/none", False)])
    assert (
        private == "hub:org/squares is not on the Hub, or is private: check the name, or log in with `hf auth login`."
    )
    assert unknown == "hub:org/none is not on the Hub, or is private: check the name, or log in with `hf auth login`."
    with_token, revision = _on_the_hub(
        hub, tmp_path, [("hub:org/squares", True), ("hub:org/squares@v9", True)], HF_TOKEN="hf_secret"
    )
    assert with_token[1] == ["t9", "t0", "t4"]
    assert revision == 'The dataset "org/squares" on the Hub has no revision "v9".'
    (offline,) = _on_the_hub(hub, tmp_path / "new", [("hub:org/squares", False)], HF_HUB_OFFLINE="1")
    assert str(offline).startswith("hub:org/squares is not in the cache and the Hub cannot be reached: connect to")
