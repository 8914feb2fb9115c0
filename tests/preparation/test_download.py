"""Downloading official files from servers that misbehave."""

import hashlib
import io
import os
import random
import resource
import shutil
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulty_server import Answer, send, send_ranges, serving

from cascade_clip import reachability
from cascade_clip.data.benchmark import Benchmark, OfficialFile
from cascade_clip.errors import UserError
from cascade_clip.preparation import download, official_files
from cascade_clip.preparation.official_files import NotServedError, fetch, fetch_dataset

PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


def zipped(*names: str, seed: int = 0) -> bytes:
    """A zip whose members hold 8 KiB of noise."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), random.Random(seed).randbytes(8192))
    return stream.getvalue()


CONTENT = zipped("train/a.png", "train/b.png")
OTHER = zipped("train/a.png", "train/b.png", seed=1)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def official(*addresses: str, **known: object) -> OfficialFile:
    """The file a.zip with its checksum and length, unless told otherwise."""
    content: dict[str, object] = {"name": "a.zip", "what": "pictures", "addresses": addresses}
    if not known:
        known = {"bytes": len(CONTENT), "sha256": SHA256}
    return OfficialFile.model_validate(content | known)


def take(file: OfficialFile, folder: Path, retries: int = 5, timeout: float = 10.0, **options: Any) -> Path:
    """Download without pauses."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("RETRIES", retries), ("TIMEOUT", timeout), ("BACKOFF", 0.0)):
            patch.setattr(download, name, value)
        return fetch(file, folder, **options)


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_fetches_a_file(tmp_path):
    seen: list[tuple[int, int, str]] = []
    folder = tmp_path / "new" / "folder"
    with serving(send_ranges(CONTENT)) as site:
        path = take(official(site.url("a.zip")), folder, progress=lambda *state: seen.append(state))
    assert path == folder / "a.zip"
    assert path.read_bytes() == CONTENT
    assert visible(folder) == {"a.zip", "a.zip.verified"}
    assert (len(CONTENT), len(CONTENT), "a.zip") in seen
    assert seen[-1] == (len(CONTENT), len(CONTENT), "checking a.zip")
    assert site.requests[0][1]["User-Agent"].startswith("cascade-clip/")


def test_dropped_connection_is_continued(tmp_path):
    with serving(send_ranges(CONTENT, most=HALF), send_ranges(CONTENT, most=100), send_ranges(CONTENT)) as site:
        path = take(official(site.url("a.zip")), tmp_path)
    assert path.read_bytes() == CONTENT
    assert site.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 100}-"]
    assert site.requests[1][1]["If-Range"] == '"1"'


def test_part_is_kept_for_the_next_run(tmp_path):
    with serving(send_ranges(CONTENT, most=HALF), send(b"", status=503)) as site:
        file = official(site.url("a.zip"))
        with pytest.raises(NotServedError, match=r"a\.zip could not be downloaded: .*answered 503"):
            take(file, tmp_path, retries=2)
        assert len(site.requests) == 1 + 2
        assert visible(tmp_path) == {"a.zip.part"}
        site.answers[-1] = send_ranges(CONTENT)
        assert take(file, tmp_path).read_bytes() == CONTENT
    assert site.ranges[-1] == f"bytes={HALF}-"
    assert visible(tmp_path) == {"a.zip", "a.zip.verified"}


def test_attempts_that_get_further_are_not_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_CONSIDERABLE", 500)
    with serving(send_ranges(CONTENT, most=500)) as site:
        assert take(official(site.url("a.zip")), tmp_path, retries=1).read_bytes() == CONTENT
    assert len(site.requests) > 20


@pytest.mark.parametrize("obey_if_range", [True, False])
def test_file_that_changed_between_attempts_starts_anew(tmp_path, obey_if_range: bool):
    changed = send_ranges(CONTENT, etag='"2"', obey_if_range=obey_if_range)
    with serving(send_ranges(OTHER, most=HALF), changed) as site:
        assert take(official(site.url("a.zip")), tmp_path).read_bytes() == CONTENT
    assert site.ranges == ([None, f"bytes={HALF}-"] if obey_if_range else [None, f"bytes={HALF}-", None])


def test_announced_length_is_too_large(tmp_path):
    lie = send(CONTENT, length=2 * len(CONTENT))
    with serving(lie, send_ranges(CONTENT)) as site:
        assert take(official(site.url("a.zip"), sha256=SHA256), tmp_path).read_bytes() == CONTENT
    assert site.ranges == [None, f"bytes={len(CONTENT)}-"]  # answered 416: there is no more


def test_wrong_bytes_are_removed_and_both_checksums_named(tmp_path):
    wrong = bytearray(CONTENT)
    wrong[HALF] ^= 1
    with serving(send(bytes(wrong))) as site, pytest.raises(UserError, match="damaged or another file") as caught:
        take(official(site.url("a.zip")), tmp_path)
    assert f"its sha256 is {hashlib.sha256(wrong).hexdigest()} instead of {SHA256}" in str(caught.value)
    assert visible(tmp_path) == set()


@pytest.mark.parametrize(
    ("answer", "known", "problem", "requests"),
    [
        (send(b"gone", status=404), {}, r"a\.zip answered 404 Not Found.* --mirror URL, or put the file into", 1),
        (send_ranges(CONTENT, most=0), {}, "broke off", 3),
        (send(CONTENT, length=HALF), {}, f"announces {HALF} bytes where {len(CONTENT)} are expected", 1),
        (send(b"", status=416), {}, "cannot continue the part", 3),
        (send(PAGE), {"members": {".png": 2}}, "sent a web page", 1),
    ],
)
def test_answers_that_are_not_the_file(tmp_path, answer: Answer, known: dict[str, object], problem: str, requests: int):
    with serving(answer) as site, pytest.raises(NotServedError, match=problem):
        take(official(site.url("a.zip"), **known), tmp_path, retries=2)
    assert len(site.requests) == requests
    assert not any((tmp_path / name).exists() for name in ("a.zip", "a.zip.verified"))


@pytest.mark.parametrize(("etag", "begun"), [('"1"', CONTENT), ('"2"', OTHER)])
def test_next_address_continues_the_same_file_alone(tmp_path, etag: str, begun: bytes):
    first = serving(send_ranges(begun, etag=etag, most=HALF), send(b"", status=404))
    with first as gone, serving(send_ranges(CONTENT)) as second:
        path = take(official(gone.url("a.zip"), second.url("a.zip"), members={".png": 2}), tmp_path)
    assert second.ranges == [f"bytes={HALF}-"]
    assert path.read_bytes() == CONTENT


def test_members_are_counted_where_no_checksum_is_known(tmp_path):
    shadowed = zipped("a.png", "b.png", "__MACOSX/._a.png", "labels.txt")
    with serving(send(shadowed)) as site:
        with pytest.raises(UserError, match=r"it holds 2 \.png files instead of 3"):
            take(official(site.url("a.zip"), members={".png": 3}), tmp_path)
        assert visible(tmp_path) == set()
        take(official(site.url("a.zip"), members={".png": 2}), tmp_path)


def test_part_of_another_process_is_continued_where_a_checksum_tells_whether_it_fits(tmp_path):
    for known, asked in (({"sha256": SHA256}, f"bytes={HALF}-"), ({"members": {".png": 2}}, None)):
        folder = tmp_path / str(asked)
        folder.mkdir()
        (folder / "a.zip.part").write_bytes(CONTENT[:HALF])
        with serving(send_ranges(CONTENT)) as site:
            assert take(official(site.url("a.zip"), **known), folder).read_bytes() == CONTENT
        assert site.ranges == [asked]


def test_complete_part_needs_no_request(tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert take(official("http://127.0.0.1:9/a.zip"), tmp_path).read_bytes() == CONTENT


def test_mirror_alone_is_asked(tmp_path):
    with serving(send(CONTENT)) as official_site, serving(send(CONTENT)) as mirror:
        file = official(official_site.url("deep/a.zip"))
        take(file, tmp_path / "first", mirror=mirror.address + "/copies/")
        assert mirror.requests[0][0] == "/copies/a.zip"
        gone = official(unavailable="Its host is gone.", sha256=SHA256)
        take(gone, tmp_path / "second", mirror=mirror.address)
        mirror.answers = [send(b"", status=404)]
        with pytest.raises(NotServedError, match="answered 404"):
            take(file, tmp_path / "third", mirror=mirror.address)
    assert official_site.requests == []


@pytest.mark.parametrize("mirror", ["ftp://somewhere/", "/tmp", "http://"])
def test_mirror_must_be_an_address(tmp_path, mirror: str):
    with pytest.raises(UserError, match="must be an address that begins with http:// or https://") as caught:
        take(official("http://127.0.0.1:9/a.zip"), tmp_path, mirror=mirror)
    assert f'got "{mirror}"' in str(caught.value)


def test_complete_file_is_neither_fetched_nor_hashed_again(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(CONTENT)
    hashed: list[str] = []
    file = official("http://127.0.0.1:9/a.zip")
    for _ in range(2):
        assert take(file, tmp_path, progress=lambda _done, _total, name: hashed.append(name)) == path
    assert hashed == ["checking a.zip"]
    os.utime(path, (1, 1))
    take(file, tmp_path, progress=lambda _done, _total, name: hashed.append(name))
    assert len(hashed) == 2
    with pytest.raises(UserError, match="is not the official file"):
        take(file.model_copy(update={"sha256": "0" * 64}), tmp_path)


@pytest.mark.parametrize(("content", "problem"), [(OTHER, "its sha256 is"), (CONTENT[:-1], "bytes instead of")])
def test_other_file_of_that_name_is_refused_and_kept(tmp_path, content: bytes, problem: str):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"a.zip is not the official file: .*{problem}.* Remove it"):
        take(official("http://127.0.0.1:9/a.zip"), tmp_path)
    assert path.read_bytes() == content


def test_folder_that_is_a_file(tmp_path):
    (tmp_path / "folder").write_text("")
    with pytest.raises(UserError, match=r'folder" is no folder: ".*" is a file\. Choose another'):
        take(official("http://127.0.0.1:9/a.zip"), tmp_path / "folder")


def test_full_disk_is_noticed_before_anything_is_fetched(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with serving(send(CONTENT)) as site:
        file = official(site.url("a.zip"), bytes=19_336_861_798, sha256=SHA256)
        with pytest.raises(UserError, match=r"a\.zip needs 19\.34 GB more in .*, where only 0\.00 GB are free\."):
            take(file, tmp_path)
        assert site.requests == []
        with pytest.raises(UserError, match=r"a\.zip needs 0\.00 GB more"):
            take(official(site.url("a.zip"), sha256=SHA256), tmp_path)
    assert visible(tmp_path) == set()


def test_disk_that_fills_meanwhile_keeps_what_was_fetched(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving(send_ranges(CONTENT)) as site:
        file = official(site.url("a.zip"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, limits[1]))
        try:
            with pytest.raises(UserError, match=r"a\.zip\.part could not be written: File too large"):
                take(file, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert take(file, tmp_path).read_bytes() == CONTENT
    assert site.ranges == [None, f"bytes={HALF}-"]


Offer = Callable[..., None]


@pytest.fixture
def offer(monkeypatch) -> Offer:
    """Gives a function that puts a benchmark of these files in place of the official ones."""

    def replace(*files: OfficialFile) -> None:
        facts = Benchmark(title="T", counts={}, may_be_published=True, licence="None.", terms=(), files=files)
        monkeypatch.setattr(official_files, "benchmark", lambda _name: facts)

    return replace


def test_dataset_is_completed(tmp_path, offer: Offer):
    (tmp_path / "b.zip").write_bytes(OTHER)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "picture.jpg").write_bytes(b"")
    digest = hashlib.sha256(OTHER).hexdigest()
    with serving(send(CONTENT)) as site:
        files = [
            official(site.url("b.zip"), name="b.zip", sha256=digest),
            official(site.url("c.zip"), name="c.zip", sha256=SHA256, unpacked=("val",)),
            official(site.url("a.zip")),
        ]
        offer(official(name="d.json", unavailable="Its host is gone."), *files)
        with pytest.raises(UserError) as caught:
            fetch_dataset("test", tmp_path)
        offer(*files)
        found = fetch_dataset("test", tmp_path)
    assert str(caught.value) == f"d.json (pictures) cannot be downloaded. Its host is gone. Put it into {tmp_path}."
    assert found == []
    assert [path for path, _ in site.requests] == ["/a.zip"]


def test_a_missing_network_is_told_once_and_at_once(tmp_path, offer: Offer, monkeypatch):
    """Not after the attempts at every file; one server that answers is enough to go on."""
    monkeypatch.setattr(reachability, "ANSWER_WITHIN_S", 0.3)
    with serving(send(CONTENT)) as site, socket.create_server(("127.0.0.1", 0)) as mute:
        lost = f"http://127.0.0.1:{mute.getsockname()[1]}/b.zip"
        offer(official(lost, name="b.zip"), official(f"{lost}2", name="c.zip"))
        with pytest.raises(NotServedError, match=r"^Nothing can be downloaded: 127\.0\.0\.1:\d+ cannot be reached \("):
            fetch_dataset("test", tmp_path)
        assert not list(tmp_path.iterdir())
        offer(official(lost, site.url("a.zip"), name="a.zip", sha256=SHA256))
        monkeypatch.setattr(
            "cascade_clip.preparation.official_files.fetch", lambda file, folder, **_: folder / file.name
        )
        assert fetch_dataset("test", tmp_path) == [tmp_path / "a.zip"]


def test_one_of_several_alternatives_is_enough(tmp_path, offer: Offer):
    with serving(send(CONTENT)) as site:
        masks = {"alternative": "masks", "sha256": SHA256}
        offer(
            official(name="d.zip", unavailable="Its host is gone.", **masks),
            official(site.url("a.zip"), **masks),
            official(site.url("b.zip"), name="b.zip", **masks),
        )
        assert fetch_dataset("test", tmp_path / "first") == [tmp_path / "first" / "a.zip"]
        own = tmp_path / "second" / "d.zip"
        own.parent.mkdir()
        own.write_bytes(CONTENT)
        assert fetch_dataset("test", own.parent) == []
        site.answers = [send(b"", status=404)]
        with pytest.raises(NotServedError) as caught:
            fetch_dataset("test", tmp_path / "third")
    a, b, d = str(caught.value).splitlines()
    assert a.startswith("a.zip could not be downloaded")
    assert b.startswith("b.zip could not be downloaded")
    assert d.startswith("In its place another file serves. d.zip (pictures) cannot be downloaded.")
