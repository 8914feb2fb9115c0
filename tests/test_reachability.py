"""A Hub that cannot be reached is told within seconds, and what lies in its cache is used."""

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from fake_hub import FakeHub, fake_hub
from huggingface_hub import constants

from cascade_clip import reachability
from cascade_clip.checkpoint.folder import checkpoint_folder
from cascade_clip.data.hub_address import HubAddress
from cascade_clip.errors import UserError
from cascade_clip.model.clip.load import load_clip
from cascade_clip.reachability import check_hub, hub_or_cache
from cascade_clip_cli.main import main


@pytest.fixture(params=["mute", "closed"])
def lost_hub(request, monkeypatch, tmp_path) -> Iterator[str]:
    """A Hub that takes connections and never answers, or takes none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        FakeHub({}, endpoint=f"http://127.0.0.1:{server.getsockname()[1]}").take_the_hubs_place(monkeypatch, tmp_path)
        if request.param == "closed":
            server.close()
        monkeypatch.setattr(reachability, "ANSWER_WITHIN_S", 0.3)
        yield "no answer within|timed out" if request.param == "mute" else "[Cc]onnection refused"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: load_clip("ViT-B-16-quickgelu", "openai"), 'The weights "openai" of .* could not be downloaded'),
        (lambda: load_clip("hf-hub:org/clip"), '"hf-hub:org/clip" could not be fetched'),
        (lambda: checkpoint_folder("org/model"), '"org/model" could not be fetched from the Hub'),
        (lambda: HubAddress("org/data").pinned(), "hub:org/data could not be fetched"),
        (lambda: HubAddress("org/data").download(["dataset.json"]), "hub:org/data could not be fetched"),
    ],
)
def test_a_lost_hub_is_told_in_time(lost_hub: str, ask: Callable[[], object], message: str):
    """Without the minutes of the client's retries; afterwards the Hub is asked again."""
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"{message}.*\(http://127\.0\.0\.1:\d+ cannot be reached: .*({lost_hub})"):
        ask()
    assert time.monotonic() - start < 3
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.usefixtures("lost_hub")
def test_the_cache_serves_where_the_hub_is_lost(tmp_path):
    (snapshot := tmp_path / "hf" / "models--org--model" / "snapshots" / ("1" * 40)).mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (refs := tmp_path / "hf" / "models--org--model" / "refs").mkdir()
    (refs / "main").write_text("1" * 40)
    assert checkpoint_folder("org/model") == snapshot


def test_a_hub_that_answers_anything_is_reached(monkeypatch, tmp_path):
    with fake_hub() as hub:
        hub.take_the_hubs_place(monkeypatch, tmp_path)
        with hub_or_cache():
            assert not constants.HF_HUB_OFFLINE
        assert [verb for verb, _, _ in hub.requests] == ["HEAD"]


def test_nothing_is_asked_where_the_user_is_offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(reachability, "get_session", lambda: pytest.fail("asked"))
    with hub_or_cache():
        assert constants.HF_HUB_OFFLINE


def test_an_upload_to_a_lost_hub_is_refused_before_the_work(lost_hub: str, tmp_path):
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"cannot be reached \(.*({lost_hub}).*\): connect to the internet"):
        check_hub()
    with pytest.raises(SystemExit) as left:
        main(["prepare-data", "shapes", "--output", str(tmp_path / "new"), "--push-to-hub", "org/data"])
    assert left.value.code == 2
    assert not (tmp_path / "new").exists()
    assert time.monotonic() - start < 3
