"""The same files in a folder and in archives of every kind are the same dataset; ambiguity is refused."""

import errno
import os
import pickle
import shutil
import subprocess
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from official_miniatures import pack, write_lines

from cascade_clip.errors import UserError
from cascade_clip.preparation.archives import spool_folder
from cascade_clip.preparation.source_files import describe_archives, describe_file, read_lines
from cascade_clip.preparation.source_tree import Entry, SourceTree

KINDS = ["folder", "zip", "tar", "tgz", "tar.gz", "tar.bz2", "tar.xz"]
FILES = {
    "photos/b.jpg": b"bee",
    "photos/a.JPG": b"a" * 3000,
    "photos/notes.txt": b"one\n",
    "photos/.hidden.jpg": b"no",
    "photos/deep/c.jpg": b"sea",
    "masks/a.png": b"mask",
    "lists/train.txt": b"\xef\xbb\xbfa\r\n b \n\n",
}


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _source(tmp_path: Path, kind: str) -> Path:
    """The files in a folder named "set", or packed; then the folder is gone."""
    folder = _write(tmp_path / "made" / "set", FILES)
    if kind == "folder":
        return folder
    archive = pack(folder, tmp_path / f"set.{kind}")
    shutil.rmtree(folder)
    return archive


def _open(*sources: Path) -> SourceTree:
    return SourceTree(sources, spool=spool_folder(sources[0].parent / "out"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_entries_and_bytes(tmp_path, kind: str):
    source = _source(tmp_path, kind)
    tree = _open(source)
    assert tree.places == str(source)
    photos = tree.folder("photos", (".jpg",))
    assert {stem: entry.read() for stem, entry in photos.items()} == {"a": b"a" * 3000, "b": b"bee"}
    assert list(photos) == ["a", "b"]
    assert (photos["a"].name, photos["a"].stem, photos["a"].suffix) == ("a.JPG", "a", ".jpg")
    assert pickle.loads(pickle.dumps(photos["b"])).read() == b"bee"
    assert str(photos["b"]) == f"{source}/{'' if kind == 'folder' else 'set/'}photos/b.jpg"
    assert photos["b"].place.parts[-3:] == ("set", "photos", "b.jpg")
    assert list(tree.folder("set/photos/deep", (".jpg",))) == ["c"]
    assert list(tree.folder("photos", (".jpg", ".txt"))) == ["a", "b", "notes"]
    assert tree.folder("hotos", (".jpg",)) == {}
    assert tree.folder("photos", (".png",)) == {}
    found = tree.file("lists/train.txt")
    assert found is not None
    assert read_lines(found, "list") == ["a", "b"]
    assert tree.file("photos/train.txt") is None
    assert tree.file("train.txt") == found


def test_a_folder_opens_the_archives_in_it_only_for_what_it_lacks(tmp_path):
    pack(_write(tmp_path / "made" / "photos", {"a.jpg": b"packed"}), tmp_path / "photos.zip")
    pack(_write(tmp_path / "made" / "masks", {"a.png": b"mask"}), tmp_path / "masks.tar")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "broken.zip").write_bytes(b"never opened")
    shutil.rmtree(tmp_path / "made")
    tree = _open(tmp_path)
    assert tree.folder("photos", (".jpg",))["a"].read() == b"packed"
    assert tree.folder("masks", (".png",))["a"].read() == b"mask"
    _write(tmp_path, {"photos/a.jpg": b"unpacked", "broken.zip": b"half a download"})
    tree = _open(tmp_path)
    assert tree.folder("photos", (".jpg",))["a"].read() == b"unpacked"
    with pytest.raises(UserError, match=r"broken\.zip is damaged or cut off .*; download it again, or move it away"):
        tree.folder("masks", (".png",))


def test_an_archive_counts_as_a_folder_of_its_name(tmp_path):
    folder = _write(tmp_path / "made", {"a.png": b"1", "__MACOSX/Aug/a.png": b"2", "._b.png": b"3"})
    subprocess.run(["tar", "cf", str(tmp_path / "Aug.tar"), "-C", str(folder), "."], check=True)
    tree = _open(tmp_path / "Aug.tar")
    assert {stem: entry.read() for stem, entry in tree.folder("Aug", (".png",)).items()} == {"a": b"1"}


def test_several_places_are_never_mixed(tmp_path):
    _write(tmp_path / "one", {"x/train/a.png": b"1", "x/l.txt": b""})
    _write(tmp_path / "two", {"x/train/a.png": b"2", "x/l.txt": b""})
    tree = _open(tmp_path)
    with pytest.raises(UserError, match=r'"train" was found more than once: .*one/x/train and .*two/x/train; move the'):
        tree.folder("train", (".png",))
    with pytest.raises(UserError, match=r'"x/l\.txt" was found more than once: .*one/x and .*two/x; move'):
        tree.file("x/l.txt")
    assert tree.folder("two/x/train", (".png",))["a"].read() == b"2"
    assert tree.folder("train", (".jpg",)) == {}
    for name, member in (("one", "../z/a.png"), ("two", "../z/a.png"), ("three", "/z/a.png"), ("four", "/z/a.png")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(member, name)
    with pytest.raises(UserError, match=r"four\.zip/z and .*one\.zip/\.\./z and .*three\.zip/z and .*two\.zip/\.\./z"):
        _open(tmp_path).folder("z", (".png",))
    _write(tmp_path, {"y/a.jpg": b"", "y/a.jpeg": b""})
    with pytest.raises(UserError, match=r"y/a\.jpeg and .*y/a\.jpg differ only in their ending; keep the one"):
        _open(tmp_path).folder("y", (".jpg", ".jpeg"))


def test_links_are_followed_but_not_in_circles(tmp_path):
    _write(tmp_path / "elsewhere", {"train/a.png": b"1"})
    source = tmp_path / "source"
    source.mkdir()
    (source / "images").symlink_to(tmp_path / "elsewhere")
    (source / "images2").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(source)
    tree = _open(source)
    assert tree.folder("train", (".png",))["a"].read() == b"1"
    assert tree.folder("images2/train", (".png",))["a"].read() == b"1"


def test_single_files_and_missing_sources(tmp_path):
    path = write_lines(tmp_path / "merged.json", ["{}"])
    write_lines(tmp_path / "other.json", ["{}"])
    tree = _open(path)
    assert tree.file("merged.json") == Entry.of(path)
    assert tree.file("other.json") is None
    with pytest.raises(UserError, match=r"none is not there; give a folder or an archive \(\.zip, \.tar, "):
        _open(tmp_path / "none")


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def as_another_user(folder: str) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(os, "scandir", as_another_user)
    with pytest.raises(UserError, match=rf"The folder {tmp_path} cannot be read: Permission denied"):
        _open(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tgz"])
def test_files_that_vanish_or_change_while_they_are_read_are_named(tmp_path, kind: str):
    source = _source(tmp_path, kind)
    entry = _open(source).folder("masks", (".png",))["a"]
    if kind == "folder":
        entry.container.unlink()
        with pytest.raises(UserError, match=r"masks/a\.png cannot be read: No such file"):
            entry.read()
        return
    again = entry.container.read_bytes()
    entry.container.unlink()
    with pytest.raises(UserError, match=rf"{entry.container.name}/set/masks/a\.png cannot be read: No such file"):
        entry.read()
    if kind == "zip":
        with zipfile.ZipFile(entry.container, "w") as other:
            other.writestr(str(entry.member), entry.name * 9)
    else:
        entry.container.write_bytes(again)
    os.utime(entry.container, (1, 1))
    with pytest.raises(UserError, match=r"set/masks/a\.png was changed while it was being read; start again"):
        entry.read()


def test_what_a_dataset_was_made_from_is_described(tmp_path, monkeypatch):
    archive = _source(tmp_path, "tgz")
    with _open(archive) as tree:
        entries = [*tree.folder("photos", (".jpg",)).values(), Entry.of(archive)]
        described = describe_archives(entries)
        assert described == [describe_file(archive)]
        assert described[0].name == "set.tgz"
        listed = tree.file("train.txt")
        assert listed is not None
        assert (describe_file(listed).name, describe_file(listed).bytes) == ("train.txt", len(FILES["lists/train.txt"]))
    monkeypatch.setattr("cascade_clip.preparation.source_files._HASHED_BYTES", 10)
    assert describe_archives(entries)[0].sha256 == ""


@pytest.mark.parametrize("kind", ["tgz", "tar.xz"])
def test_what_was_spooled_is_used_again_and_removed(tmp_path, kind: str):
    archive = _source(tmp_path, kind)
    tree = _open(archive)
    assert list(tree.folder("masks", (".png",))) == ["a"]
    (spooled,) = (tmp_path / ".out.sources").iterdir()
    written = spooled.stat().st_ino
    again = _open(archive)
    assert again.folder("masks", (".png",)) == tree.folder("masks", (".png",))
    assert spooled.stat().st_ino == written
    os.utime(archive, (1, 1))
    changed = _open(archive)
    assert changed.folder("masks", (".png",)) != tree.folder("masks", (".png",))
    assert len(list((tmp_path / ".out.sources").iterdir())) == 2
    with changed:
        pass
    assert not (tmp_path / ".out.sources").exists()


def test_an_interrupt_keeps_what_was_spooled_and_an_error_does_not(tmp_path):
    archive = _source(tmp_path, "tgz")
    for failure, kept in ((KeyboardInterrupt, True), (UserError, False)):
        with suppress(failure), _open(archive) as tree:
            tree.folder("masks", (".png",))
            raise failure
        assert (tmp_path / ".out.sources").exists() == kept


def test_compressed_tars_are_passed_over_where_nothing_of_them_is_wanted(tmp_path):
    archive = _source(tmp_path, "tgz")
    assert SourceTree([archive]).folder("masks", (".png",)) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "set.tgz"]
