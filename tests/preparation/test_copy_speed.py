"""The speed of a plain copy, and what is said of a preparation beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from official_miniatures import drawn_mask, write_coco

from cascade_clip.preparation import copy_speed as module
from cascade_clip.preparation.copy_speed import PreparationSpeed, bytes_on_disk, plain_copy_speed
from cascade_clip.preparation.prepare_coco import coco_samples
from cascade_clip.preparation.shards import Sample

MASKS = {f"{index:012d}": drawn_mask(index, [0, 5, 171]) for index in range(4)}


@pytest.fixture(params=["zips", "README"])
def samples(tmp_path: Path, request: pytest.FixtureRequest) -> list[Sample]:
    source = write_coco(tmp_path / "source", train=MASKS, val=MASKS, layout=request.param)
    return coco_samples(source, subset=4)["train"]


@pytest.fixture
def two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is measured takes two seconds."""
    monkeypatch.setattr(module, "perf_counter", iter([10.0, 12.0]).__next__)


@pytest.mark.usefixtures("two_seconds")
def test_all_files_are_copied_and_removed_again(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: written.append(content) or write(path, content))
    (tmp_path / "target").mkdir()
    assert plain_copy_speed(samples, tmp_path / "target") == 2.0
    assert written == [entry.read() for sample in samples for entry in (sample.payload.image, sample.payload.mask)]
    assert not list((tmp_path / "target").iterdir())


@pytest.mark.usefixtures("two_seconds")
def test_it_stops_at_the_limit(samples: list[Sample], tmp_path: Path) -> None:
    first_two = sum(
        len(entry.read()) for sample in samples[:2] for entry in (sample.payload.image, sample.payload.mask)
    )
    assert plain_copy_speed(samples, tmp_path, limit_bytes=first_two) == 1.0


def test_nothing_to_copy_gives_no_speed(samples: list[Sample], tmp_path: Path) -> None:
    assert plain_copy_speed([], tmp_path) is None
    assert plain_copy_speed([Sample("drawn", 7)], tmp_path) is None
    assert plain_copy_speed(samples, tmp_path / "none") is None


def test_a_file_that_went_away_gives_no_speed_and_leaves_nothing(samples: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    samples[1].payload.mask.container.unlink()
    assert plain_copy_speed(samples, tmp_path / "target") is None
    assert not list((tmp_path / "target").iterdir())


def test_a_preparation_is_told_in_values_and_in_a_line() -> None:
    speed = PreparationSpeed(images=300, seconds=2.0, bytes_on_disk=20_049_000_000, copied_per_second=600.0)
    assert (speed.images_per_second, speed.share_of_copy) == (150.0, 0.25)
    assert str(speed) == "300 images in 2.0 s: 150.0 images/s, 0.25 of a plain copy of the files; 20.0 GB on disk"


def test_without_a_copy_there_is_no_share() -> None:
    speed = PreparationSpeed(images=3, seconds=0.5, bytes_on_disk=999)
    assert speed.share_of_copy is None
    assert str(speed) == "3 images in 0.5 s: 6.0 images/s; 999 bytes on disk"


def test_a_run_that_had_nothing_to_do_has_no_speed() -> None:
    speed = PreparationSpeed(images=0, seconds=0.1, bytes_on_disk=1_500_000, copied_per_second=600.0)
    assert (speed.images_per_second, speed.share_of_copy) == (0.0, None)
    assert str(speed) == "All images were finished before; 1.5 MB on disk"


def test_disk_use_counts_every_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(b"12345")
    (tmp_path / "b").write_bytes(b"123")
    assert bytes_on_disk(tmp_path) == 8
