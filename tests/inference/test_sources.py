import os
from pathlib import Path

import pytest

from cascade_clip.errors import UserError
from cascade_clip.inference.sources import find_images, find_sources, output_stems, source_named


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/c.jpg", "deep/b.jpg"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([""], ["a.PNG", "b.jpg"]),  # a folder: its images, sorted, without subfolders
        (["*.jpg"], ["b.jpg"]),
        (["**/*.jpg"], ["b.jpg", "deep/b.jpg", "deep/c.jpg"]),
        (["deep/c.jpg", "", "b.jpg"], ["deep/c.jpg", "a.PNG", "b.jpg"]),  # in this order, each file once
        (["notes.txt"], ["notes.txt"]),  # a file named outright, whatever its suffix
        (["a[1].jpg"], ["a[1].jpg"]),  # not a glob where such a file exists
    ],
)
def test_files_folders_and_globs(photos: Path, given: list[str], found: list[str]):
    if given == ["a[1].jpg"]:
        (photos / "a[1].jpg").write_bytes(b"")
    assert [path.relative_to(photos).as_posix() for path in find_images([photos / name for name in given])] == found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.jpg", 'There is no file or folder ".*nowhere.jpg"'),
        ("*.tiff", r'No image matches ".*\*.tiff"'),
        ("empty", 'No image was found in the folder ".*empty".*.jpg'),
    ],
)
def test_nothing_found_is_said(photos: Path, given: str, message: str):
    (photos / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_images([photos / given])


@pytest.mark.parametrize("name", ["set [12]", "a*b", "what?", "[examples]"])
def test_what_exists_is_no_pattern(tmp_path: Path, name: str) -> None:
    for folder in (name, "set 1", "a-b", "whats", "e"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(b"")
    own = [tmp_path / name / "x.png"]
    assert find_images([tmp_path / name]) == find_images([tmp_path / name / "*.png"]) == find_images(own) == own
    with pytest.raises(UserError, match=r'^There is no file or folder ".*y\.png"'):
        find_images([tmp_path / name / "y.png"])


def test_what_is_no_file_is_left_to_whoever_opens_it(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert [path.name for path in find_images([tmp_path])] == ["loop.png", "pipe.png"]
    assert output_stems(find_sources([str(tmp_path)])) == ["loop", "pipe"]
    with pytest.raises(UserError, match=r"cannot be used: File name too long\."):
        find_images([tmp_path / ("n" * 300)])


def test_stems_never_collide():
    names = "x/photo.jpg y/photo.jpg y/Photo.png y/photo.webp z/y/photo.jpg z/y/photo.jpeg other.jpg"
    stems = output_stems([source_named(name) for name in names.split()])
    assert stems == ["photo", "y-photo", "Photo-png", "photo-webp", "photo-jpg", "photo-jpeg", "other"]
    assert len({stem.casefold() for stem in output_stems([source_named("x/a.jpg")] * 6)}) == 6
