from pathlib import Path

import pytest

from cascade_clip.errors import UserError
from cascade_clip.inference.inputs import find_images, output_stems, read_class_file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "notes.txt", "deep/c.jpg", "deep/b.jpg"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return tmp_path / "photos"


def test_a_folder_gives_its_images_sorted_without_subfolders(photos: Path):
    assert [path.name for path in find_images([photos])] == ["a.PNG", "b.jpg"]


def test_globs_are_expanded_here_and_cross_folders_with_two_stars(photos: Path):
    assert [path.name for path in find_images([f"{photos}/*.jpg"])] == ["b.jpg"]
    assert [path.relative_to(photos).as_posix() for path in find_images([f"{photos}/**/*.jpg"])] == [
        "b.jpg",
        "deep/b.jpg",
        "deep/c.jpg",
    ]


def test_the_order_of_inputs_is_kept_and_a_file_comes_once(photos: Path):
    found = find_images([photos / "deep" / "c.jpg", photos, photos / "b.jpg"])
    assert [path.name for path in found] == ["c.jpg", "a.PNG", "b.jpg"]


def test_a_file_named_outright_is_taken_whatever_its_suffix(photos: Path):
    assert find_images([photos / "notes.txt"]) == [photos / "notes.txt"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(photos: Path):
    (photos / "a[1].jpg").write_bytes(b"")
    assert find_images([photos / "a[1].jpg"]) == [photos / "a[1].jpg"]


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


def test_stems_never_collide():
    paths = [
        Path("x/photo.jpg"),
        Path("y/photo.jpg"),
        Path("y/Photo.png"),
        Path("y/photo.webp"),
        Path("z/y/photo.jpg"),
        Path("z/y/photo.jpeg"),
        Path("other.jpg"),
    ]
    stems = output_stems(paths)
    assert stems == ["photo", "y-photo", "Photo-png", "photo-webp", "photo-jpg", "photo-jpeg", "other"]
    assert len({stem.casefold() for stem in output_stems([Path("x/a.jpg")] * 6)}) == 6


def test_class_files_hold_a_name_a_line(tmp_path: Path):
    file = tmp_path / "classes.txt"
    file.write_text("\ufeffroad\n\n# a remark\n  sofa|couch  \n", encoding="utf-8")
    assert read_class_file(file) == ["road", "sofa|couch"]


@pytest.mark.parametrize(
    ("content", "message"), [(b"\n# only\n", "holds no class name"), (b"\xff\xfe\x00", "is no UTF-8 text")]
)
def test_class_files_that_hold_no_names(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_class_file(tmp_path / "classes.txt")


def test_a_missing_class_file(tmp_path: Path):
    with pytest.raises(UserError, match=r'class file ".*nowhere\.txt" cannot be read: No such file'):
        read_class_file(tmp_path / "nowhere.txt")
