"""The stopping of commands that other tests rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from crashes import KILLED, ForkedCommands, Stop, tree

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def commands() -> Iterator[ForkedCommands]:
    with ForkedCommands() as started:
        yield started


def change(folder: str) -> None:
    """Four events: a folder, a file, its renaming, its deletion."""
    place = Path(folder)
    place.mkdir()
    (place / "new").write_bytes(b"content")
    (place / "new").replace(place / "old")
    (place / "old").unlink()


CHANGE = ("call", f"{Path(__file__).stem}:change", "place")


def test_events_are_counted_in_order(commands: ForkedCommands, tmp_path: Path) -> None:
    ended = commands.run(CHANGE, watched=tmp_path)
    assert ended.code == 0, ended.output
    assert ended.events == (
        "os.mkdir place",
        "open place/new",
        "os.rename place/new place/old",
        "os.remove place/old",
    )
    assert ended.stops() == [Stop(1), Stop(2), Stop(2, "cut"), Stop(3), Stop(4)]
    assert ended.full_disks() == [Stop(1, "full"), Stop(2, "full")]


@pytest.mark.parametrize(
    ("stop", "left"),
    [
        (Stop(1), []),
        (Stop(2), ["place"]),
        (Stop(2, "cut"), ["place", "place/new"]),
        (Stop(3), ["place", "place/new"]),
        (Stop(4), ["place", "place/old"]),
    ],
)
def test_a_command_ends_at_its_stop(commands: ForkedCommands, tmp_path: Path, stop: Stop, left: list[str]) -> None:
    assert commands.run(CHANGE, watched=tmp_path, stop=stop).code == KILLED
    assert list(tree(tmp_path)) == left
    content = (tmp_path / "place" / "new").read_bytes() if stop in {Stop(2, "cut"), Stop(3)} else None
    assert content == {Stop(2, "cut"): b'{"cut', Stop(3): b"content"}.get(stop)


def test_a_full_disk_refuses_what_needs_room(commands: ForkedCommands, tmp_path: Path) -> None:
    ended = commands.run(CHANGE, watched=tmp_path, stop=Stop(2, "full"))
    assert ended.code == 1
    assert "No space left on device" in ended.output
    assert list(tree(tmp_path)) == ["place"]
    assert "File too large" in commands.run(CHANGE, watched=tmp_path / "place", file_bytes=3).output
