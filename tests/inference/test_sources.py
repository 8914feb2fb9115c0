import os
from pathlib import Path

import pytest

from cascade_clip.errors import UserError
from cascade_clip.inference.sources import find_images, find_sources, flat_stems, output_stems, source_named


@pytest.fixture
def photos(tmp_path) -> Path:
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


@pytest.mark.parametrize("name", ["set [12]", "a*b", "what?", "[examples]"])
def test_what_exists_is_no_pattern(tmp_path, name: str):
    for folder in (name, "set 1", "a-b", "whats", "e"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(b"")
    own = [tmp_path / name / "x.png"]
    assert find_images([tmp_path / name]) == find_images([tmp_path / name / "*.png"]) == find_images(own) == own
    with pytest.raises(UserError, match=r'^There is no file or folder ".*y\.png"'):
        find_images([tmp_path / name / "y.png"])


def test_what_is_no_file_is_left_to_whoever_opens_it(tmp_path):
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


def test_sub_folders_keep_apart_what_has_one_name(photos: Path):
    (photos / ".cache").mkdir()
    (photos / ".cache" / "d.jpg").write_bytes(b"")
    (photos / "deep" / "clip.MP4").write_bytes(b"")
    (photos / "deep" / "round").symlink_to(photos)
    found = find_sources([str(photos)], recursive=True)
    assert output_stems(found) == ["a", "b", "deep/b", "deep/c", "deep/clip"]
    assert [source.path.name for source in find_sources([str(photos / "deep")])] == ["b.jpg", "c.jpg", "clip.MP4"]
    assert list(flat_stems(["a-b", "a/b", "a/B"]).values()) == ["a-b", "a-b-2", "a-B-3"]


def test_what_an_earlier_run_wrote_is_no_photograph(photos: Path):
    (photos / "b.json").write_text('{"image": "b.jpg", "names": []}')
    (photos / "b.similarity.json").write_text('{"image": "b.jpg", "models": []}')
    ours = ["b.labels.png", "b.overlay.png", "b.similarity.png", "index_files/1.jpg", "yolo/images/b.jpg", "out/x.jpg"]
    ours.append("cvat/SegmentationClass/b.png")
    theirs = ["a.overlay.png", "deep/yolo/images/d.jpg"]
    for name in (*ours, *theirs):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(b"")
    kept = ["a.PNG", "a.overlay.png", "b.jpg", "deep/b.jpg", "deep/c.jpg", "deep/yolo/images/d.jpg"]
    for given in ([str(photos)], [str(photos / "**" / "*.*")]):
        found = [
            source.path.relative_to(photos).as_posix()
            for source in find_sources(given, recursive=True, output=photos / "out")
        ]
        assert [name for name in found if name != "out/x.jpg"] == kept
    # As the shell expands "b.*", and outright.
    expanded = [str(photos / name) for name in ("b.jpg", "b.labels.png", "b.overlay.png")]
    assert [source.path.name for source in find_sources(expanded)] == ["b.jpg"]
    assert [source.path.name for source in find_sources(expanded[1:2])] == ["b.labels.png"]
    with pytest.raises(UserError, match=r"No image was found in the folder .*, only what predictions left"):
        find_sources([str(photos / "yolo" / "images")])


@pytest.mark.parametrize(
    ("address", "stem"),
    [
        ("https://example.org/a/photo.jpg?size=2#top", "photo"),
        ("http://example.org/%2e%2e%2Fgarden%20door.png", "garden door"),
        ("https://example.org/", "example"),
        ("https://example.org/" + "n" * 300 + ".png", "n" * 100),
        ("-", "stdin"),
    ],
)
def test_stems_of_addresses(address: str, stem: str):
    assert output_stems([source_named(address)] * 2)[0] == stem


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("file:///etc/passwd", "give an http:// or https:// address, or the path of a file"),
        ("https:///x.png", "names no server"),
        ("http://example.org:port/x.png", "is no address that can be read"),
    ],
)
def test_addresses_that_are_refused(address: str, message: str):
    with pytest.raises(UserError, match=message):
        find_sources([address])


def test_a_password_is_not_told():
    (source,) = find_sources(["https://me:secret@example.org:81/x.png"])
    assert (source.name, source.address) == ("https://example.org:81/x.png", "https://me:secret@example.org:81/x.png")
