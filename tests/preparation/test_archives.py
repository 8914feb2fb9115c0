"""Archives that are cut off, damaged or of absurd size are refused in one sentence, and nothing of them stays."""

import gzip
import io
import os
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from official_miniatures import pack

from cascade_clip.errors import UserError
from cascade_clip.preparation import archives
from cascade_clip.preparation.archives import list_members
from cascade_clip.preparation.source_tree import SourceTree

SMALL = 1 << 20
"""What counts as a small content in these tests."""

ENDINGS = ["zip", "tar", "tgz", "tar.bz2", "tar.xz"]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch) -> None:
    """A sixty-fourth of the real limits, so that bombs of these tests stay small themselves."""
    monkeypatch.setattr(archives, "_SMALL_BYTES", SMALL)
    monkeypatch.setattr(archives, "_MAX_MEMBER_BYTES", 8 * SMALL)


def _noise(count: int) -> bytes:
    return random.Random(0).randbytes(count)


def _open(archive: Path) -> SourceTree:
    return SourceTree([archive], spool=archive.parent / "spool")


def _refused(archive: Path, message: str) -> None:
    """The archive gives one sentence that begins with its name, and nothing is left beside it."""
    with pytest.raises(UserError, match=message) as caught, _open(archive) as tree:
        tree.folder("x", (".png",))
    assert str(caught.value).startswith(f"The archive {archive} ")
    assert "\n" not in str(caught.value)
    assert list(archive.parent.iterdir()) == [archive]


def _zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members:
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    return path


def _tar(path: Path, *members: tarfile.TarInfo, content: bytes = b"png") -> Path:
    """A tar whose regular members have this content, compressed as the ending says."""
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for info in members:
            if info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("ending", ["zip", "tar", "tgz"])
def test_links_and_devices_are_no_files(tmp_path, ending: str):
    path = tmp_path / f"a.{ending}"
    if ending == "zip":
        link = zipfile.ZipInfo("x/l.png")
        link.external_attr = 0o120777 << 16
        _zip(path, ("x/a.png", b"png"), (link, b"/etc/passwd"))
    else:
        others = [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "x/a.png"), (tarfile.CHRTYPE, "")]
        others += [(tarfile.GNUTYPE_SPARSE, ""), (tarfile.DIRTYPE, "")]
        _tar(path, _member("x/a.png"), *(_member(f"x/{n}.png", *other) for n, other in enumerate(others)))
    assert {stem: entry.read() for stem, entry in _open(path).folder("x", (".png",)).items()} == {"a": b"png"}


# --- absurd sizes ---


def test_a_zip_that_unpacks_to_too_much_is_refused(tmp_path):
    bomb = _zip(tmp_path / "a.zip", *((f"x/{index}.png", bytes(SMALL)) for index in range(20)))
    _refused(
        bomb, r"is refused: its [\d,]+ bytes unpack to [\d,]+ or more; at most 200 times as many are accepted\. Get"
    )
    _refused(
        _zip(bomb, ("x/a.png", bytes(9 * SMALL))), r'member "x/a\.png" declares 9,437,184 bytes; 0 to 8,388,608 are'
    )
    assert list(_open(_zip(bomb, ("x/a.png", _noise(4 * SMALL)))).folder("x", (".png",))) == ["a"]
    assert list(_open(_zip(bomb, ("x/a.png", bytes(SMALL)))).folder("x", (".png",))) == ["a"]


def test_a_zip_whose_index_lies_about_the_size_is_not_believed(tmp_path):
    length = 4 * SMALL
    path = _zip(tmp_path / "a.zip", ("x/a.png", bytes(length)))
    path.write_bytes(path.read_bytes().replace(length.to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    entry = _open(path).folder("x", (".png",))["a"]
    assert entry.state[0] == 1000
    with pytest.raises(UserError, match=r"a\.zip/x/a\.png is damaged or cut off \(Bad CRC-32 .*\); download it again"):
        entry.read()


@pytest.mark.parametrize("ending", ["tar", "tgz"])
def test_a_tar_member_of_absurd_size_is_refused(tmp_path, ending: str):
    for kind, size, shown in (
        (tarfile.REGTYPE, 9 * SMALL, "9,437,184"),
        (tarfile.REGTYPE, -512, "-512"),
        (b"Z", -512, "-512"),
    ):
        header = _with_size(_member("x/a.png", kind).tobuf(), size)
        content = header + bytes(2048)
        path = tmp_path / f"a.{ending}"
        path.write_bytes(gzip.compress(content) if ending == "tgz" else content)
        _refused(path, rf'is refused: its member "x/a\.png" declares {shown} bytes; 0 to 8,388,608 are accepted')


def _with_size(header: bytes, size: int) -> bytes:
    """A tar header of this size with its checksum made right, as a forger would."""
    field = b"%011o\0" % size if size >= 0 else b"\xff" * 4 + size.to_bytes(8, "big", signed=True)
    blank = header[:124] + field + header[136:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def test_a_compressed_tar_is_unpacked_up_to_a_sane_length_only(tmp_path):
    members = [_member(f"x/{index}.png") for index in range(20)]
    bomb = _tar(tmp_path / "a.tgz", *members, content=bytes(SMALL))
    assert SMALL < 200 * bomb.stat().st_size < 20 * SMALL
    _refused(bomb, r"is refused: its [\d,]+ bytes unpack to [\d,]+ or more; at most 200 times")


# --- cut off and damaged ---


def _good(tmp_path: Path, ending: str) -> Path:
    """An archive of twenty files of noise, which nothing can compress, so that only checksums tell."""
    (tmp_path / "x").mkdir()
    for index in range(20):
        (tmp_path / "x" / f"{index:02d}.png").write_bytes(_noise(3000 + index))
    archive = pack(tmp_path / "x", tmp_path / f"a.{ending}")
    shutil.rmtree(tmp_path / "x")
    return archive


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, None])
def test_truncated_archives_and_other_files_of_their_name(tmp_path, ending: str, kept: float | None):
    path = _good(tmp_path, ending)
    if kept is None:
        path.write_bytes(b"<html>The page was not found.</html>" * 100)
    else:
        os.truncate(path, int(path.stat().st_size * kept))
    _refused(path, r"is damaged or cut off \(.*\); download it again, or move it away\.")


@pytest.mark.parametrize("more", [b"", b"\xff" * 512])
def test_a_tar_that_ends_between_two_members_is_noticed(tmp_path, more: bytes):
    path = _tar(tmp_path / "a.tar", _member("x/a.png"), _member("x/b.png"))
    path.write_bytes(path.read_bytes()[:1024] + more)
    _refused(path, r"is damaged or cut off \(no header at byte 1,024\)")


def _with_wrong_byte(path: Path, place: int) -> Path:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("ending", ["tgz", "tar.bz2", "tar.xz", "tar"])
def test_wrong_bytes_are_noticed_before_anything_is_used(tmp_path, ending: str):
    path = _good(tmp_path, ending)
    in_header = list_members(path, path)["x/07.png"][1] - 500 if ending == "tar" else None
    _refused(
        _with_wrong_byte(path, in_header or path.stat().st_size // 2), r"is damaged or cut off \(.*\); download it"
    )


def test_a_wrong_byte_in_a_zip_is_noticed_when_the_member_is_read(tmp_path):
    path = _good(tmp_path, "zip")
    offset = zipfile.ZipFile(path).getinfo("x/07.png").header_offset
    entries = _open(_with_wrong_byte(path, offset + 1000)).folder("x", (".png",))
    assert entries["08"].read() == _noise(3008)
    with pytest.raises(UserError, match=r"a\.zip/x/07\.png is damaged or cut off \(.*\); download it again"):
        entries["07"].read()


def test_a_full_disk_leaves_no_half_spool(tmp_path, monkeypatch):
    path = _good(tmp_path, "tgz")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "utime", full)
    with pytest.raises(UserError, match=r"could not be written into .*spool: the disk is full; free some space"):
        _open(path).folder("x", (".png",))
    assert list((tmp_path / "spool").iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "blocked").write_text("")
    tree = SourceTree([path], spool=tmp_path / "blocked")
    with pytest.raises(UserError, match=r"could not be written into .*blocked: File exists"):
        tree.folder("x", (".png",))
