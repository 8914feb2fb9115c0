"""Streaming a prepared dataset: the same samples as from a folder, whatever the network does."""

import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pytest
from fake_hub import COMMIT, FakeHub, fake_hub
from training_batches import assert_same_batches, load_batches

from cascade_clip.config.dataset_address import as_location
from cascade_clip.config.schema import DataConfig
from cascade_clip.data import records
from cascade_clip.data.dataset_location import dataset_folder, locate_dataset
from cascade_clip.data.hub_address import HubAddress
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.data.remote_files import RemoteFiles
from cascade_clip.errors import UserError

SHARD = "data/train-00000-of-00001.parquet"


@pytest.fixture
def hub(squares: Path, monkeypatch) -> Iterator[FakeHub]:
    """A server of byte ranges; its files are an `https://` address like any other."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    with fake_hub(org__squares=squares) as running:
        yield running


@pytest.fixture
def address(hub: FakeHub) -> str:
    return f"{hub.endpoint}/datasets/org/squares/resolve/main"


def _open(address: str, *, stream: bool = True) -> PreparedDataset:
    return PreparedDataset.open(dataset_folder(address, stream=stream))


@pytest.mark.parametrize("place", ["http", "memory"])
def test_records_equal_those_of_the_folder(squares: Path, address: str, place: str):
    if place == "memory":
        address = "memory://bucket/squares"
        fsspec.filesystem("memory").put(str(squares), "/bucket/squares", recursive=True)
    local, remote = PreparedDataset.open(squares), PreparedDataset.open(locate_dataset("any", address, stream=True))
    assert (remote.name, remote.class_names, remote.place) == (local.name, local.class_names, address)
    for part in ("train", "val"):
        assert remote.count(part) == local.count(part)
        for index in reversed(range(local.count(part))):
            assert remote.read(part, index) == local.read(part, index)
    with pytest.raises(IndexError, match="train has 10 images"):
        remote.read("train", 10)
    assert pickle.loads(pickle.dumps(remote)).read("val", 1) == local.read("val", 1)


@pytest.mark.parametrize(("workers", "start"), [(0, 0), (2, 0), (1, 2)])
def test_samples_equal_those_of_the_folder_from_any_step_on(squares: Path, address: str, workers: int, start: int):
    local = load_batches(PreparedDataset.open(squares), start_step=0)[start:]
    remote = load_batches(_open(address), start_step=start, workers=workers)
    assert_same_batches(local, remote)


@pytest.mark.parametrize(
    ("kept", "indices", "requests"), [(records.KEPT_BYTES, range(10), 3), (1, (0, 1, 9, 0), 4)], ids=["enough", "one"]
)
def test_each_row_group_is_asked_for_once_while_it_stays_in_memory(
    hub: FakeHub, address: str, monkeypatch, kept: int, indices: range | tuple[int, ...], requests: int
):
    monkeypatch.setattr(records, "KEPT_BYTES", kept)
    remote = _open(address)
    for index in indices:
        remote.read("train", index)
    assert len(hub.data_requests()) == requests  # the footer, and row groups of eight records
    assert all(part is not None for _, part in hub.data_requests())


@pytest.mark.parametrize("failures", [[503, 429, "cut"], ["cut", 500, "cut", 502, 408, 504]])
def test_failures_that_pass_are_not_noticed(squares: Path, hub: FakeHub, address: str, failures: list[int | str]):
    hub.failures += failures
    remote = _open(address)
    assert remote.read("train", 3) == PreparedDataset.open(squares).read("train", 3)
    assert not hub.failures


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ([503] * 7, rf"{SHARD} could not be read in 7 attempts: HTTP 503\. Check the network"),
        (["cut"] * 7, "could not be read in 7 attempts: "),
        ([403], r"may not be read \(HTTP 403\).*`hf auth login`"),
        ([418], rf"{SHARD} cannot be read: HTTP 418"),
        ([404], rf"{SHARD} is not there\. Check the address"),
    ],
)
def test_failures_that_stay_are_one_sentence(hub: FakeHub, address: str, failures: list[int | str], message: str):
    remote = _open(address)
    hub.failures += failures
    with pytest.raises(UserError, match=message):
        remote.read("train", 3)
    assert not hub.failures


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_server_of_whole_files_is_refused(squares: Path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(squares)))
    thread = Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True)
    thread.start()
    try:
        remote = _open(f"http://127.0.0.1:{server.server_port}/")
        with pytest.raises(UserError, match="cannot be streamed: its server sends whole files only"):
            remote.read("train", 0)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_damaged_replaced_and_missing_shards_are_named(squares: Path, tmp_path):
    folder = shutil.copytree(squares, tmp_path / "squares")
    remote = _open(f"file://{folder}")
    shard = folder / SHARD
    content = shard.read_bytes()
    for changed in (
        content[:2000] + bytes([content[2000] ^ 255]) + content[2001:],
        content[:-8] + bytes(8),
        content[:-1] + b"?",
        content[:-100],
    ):
        shard.write_bytes(changed)
        with pytest.raises(UserError, match=rf"The shard file://.*{SHARD} is damaged or was replaced \("):
            pickle.loads(pickle.dumps(remote)).read("train", 0)
    shard.unlink()
    with pytest.raises(UserError, match=rf"{SHARD} is not there\. Check the address"):
        remote.read("train", 0)


def test_addresses_that_hold_no_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    with pytest.raises(UserError, match=r"file://.* is no prepared dataset: it has no dataset\.json"):
        dataset_folder(f"file://{tmp_path}", stream=True)
    (tmp_path / "dataset.json").write_text('{"name": "other"}')
    with pytest.raises(UserError, match=r"is no prepared dataset: its dataset\.json was not made by Cascade-CLIP"):
        dataset_folder(f"file://{tmp_path}", stream=True)
    with pytest.raises(UserError, match="is not on this machine: add --stream"):
        dataset_folder("https://example.org/squares")
    with pytest.raises(UserError, match="telepathy://x is no address that can be read"):
        dataset_folder("telepathy://x", stream=True)
    with pytest.raises(UserError, match=r'"hub:a/b/c" is no dataset on the Hub: hub:ORG/NAME is expected'):
        dataset_folder("hub:a/b/c")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/dataset\.json could not be read in 7 attempts"):
        RemoteFiles("http://127.0.0.1:9").find("dataset.json")
    with pytest.raises(UserError, match=r"ftp://127\.0\.0\.1:9/dataset\.json could not be read in 7 attempts"):
        RemoteFiles("ftp://127.0.0.1:9").find("dataset.json")


def test_addresses_stay_as_they_are_written():
    assert DataConfig(dataset="hub:org/name@v1").dataset == "hub:org/name@v1"
    assert DataConfig(dataset="https://example.org/x").dataset == "https://example.org/x"
    assert DataConfig(dataset="some/folder").dataset == Path("some/folder")  # type: ignore[arg-type]
    assert as_location(Path("x")) == Path("x")
    assert HubAddress.parse("hf://datasets/org/name@main") == HubAddress("org/name", "main")
    assert HubAddress.parse("hub:squad") == HubAddress("squad")
    assert HubAddress.parse("org/name") is None


def _ids(dataset: PreparedDataset) -> list[str]:
    return [dataset.read("train", index).id for index in (9, 0, 4)]


def test_datasets_of_the_hub_are_streamed_and_downloaded(hub: FakeHub, tmp_path, monkeypatch):
    hub.take_the_hubs_place(monkeypatch, tmp_path)
    streamed, downloaded = _open("hub:org/squares"), _open("hub:org/squares@main", stream=False)
    assert streamed.place == f"hub:org/squares@{COMMIT}"
    assert downloaded.place.endswith(f"snapshots/{COMMIT}")
    assert _ids(streamed) == _ids(downloaded) == ["t9", "t0", "t4"]
    assert_same_batches(load_batches(downloaded, start_step=0), load_batches(streamed, start_step=0, workers=2))
    whole = [path for path, part in hub.data_requests() if part is None]
    assert sorted(path.rpartition("/")[2][:3] for path in whole) == ["tra", "val"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert _ids(_open("hub:org/squares@main", stream=False)) == ["t9", "t0", "t4"]
    with pytest.raises(
        UserError, match=rf"^hub:org/squares@{COMMIT} cannot be read while HF_HUB_OFFLINE is set: unset"
    ):
        _ids(pickle.loads(pickle.dumps(streamed)))


def test_what_the_hub_refuses_is_one_sentence(hub: FakeHub, tmp_path, monkeypatch):
    hub.take_the_hubs_place(monkeypatch, tmp_path)
    hub.private.add("org/squares")
    for name, stream in (("squares", True), ("none", False)):
        with pytest.raises(
            UserError, match=f"^hub:org/{name} is not on the Hub, or is private: check the name, or log"
        ):
            _open(f"hub:org/{name}", stream=stream)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert _ids(_open("hub:org/squares")) == ["t9", "t0", "t4"]
    with pytest.raises(UserError, match=r'^The dataset "org/squares" on the Hub has no revision "v9"\.$'):
        _open("hub:org/squares@v9")
    hub.take_the_hubs_place(monkeypatch, tmp_path / "new")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError,
        match=r"^hub:org/squares is not in the cache, and the Hub cannot be asked while HF_HUB_OFFLINE is set",
    ):
        _open("hub:org/squares", stream=False)
