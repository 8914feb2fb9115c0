import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cascade_clip import files
from cascade_clip.errors import UserError
from cascade_clip.files import (
    cache_folder,
    check_folder,
    check_input_file,
    check_output_file,
    data_folder,
    json_text,
    waiting_place,
    write_files,
)


@pytest.mark.skipif(sys.platform != "linux", reason="each system has its own places")
def test_the_users_folders(monkeypatch):
    for variable in ("CASCADE_CLIP_DATA", "CASCADE_CLIP_CACHE", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert data_folder() == Path("~/.local/share/cascade-clip").expanduser()
    assert cache_folder() == Path("~/.cache/cascade-clip").expanduser()
    monkeypatch.setenv("XDG_DATA_HOME", "/x/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/cache")
    assert (data_folder(), cache_folder()) == (Path("/x/data/cascade-clip"), Path("/x/cache/cascade-clip"))
    monkeypatch.setenv("CASCADE_CLIP_DATA", "~/mine")
    monkeypatch.setenv("CASCADE_CLIP_CACHE", "/y")
    assert (data_folder(), cache_folder()) == (Path("~/mine").expanduser(), Path("/y"))


def test_all_files_are_written_or_none(tmp_path):
    write_files({tmp_path / "new" / "a": b"1", tmp_path / "b": b"2"})
    assert {path.name: path.is_dir() or path.read_bytes() for path in tmp_path.rglob("*")} == {
        "new": True,
        "a": b"1",
        "b": b"2",
    }
    with pytest.raises(OSError, match="b"):
        write_files({tmp_path / "new" / "a": b"new", tmp_path / "b" / "c": b"2"})
    assert (tmp_path / "new" / "a").read_bytes() == b"1"
    assert {path.name for path in tmp_path.rglob("*")} == {"new", "a", "b"}


def test_folders_are_checked_and_not_made(tmp_path):
    check_folder(tmp_path / "x" / "y", "--pictures")
    check_folder(tmp_path, "--pictures")
    assert not (tmp_path / "x").exists()
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r'--report ".*" is no folder: ".*file" is a file\. Choose another'):
            check_folder(folder, "--report")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"nothing can be written in .* \(Permission denied"):
        check_folder(tmp_path / "x", "--report")


def test_json_has_neither_nan_nor_infinity(tmp_path):
    record = {"loss": math.nan, "all": [1.5, -math.inf, (math.inf, "NaN")], "name": "straße", 3: None}
    text = json_text(record)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "loss": None,
        "all": [1.5, None, [None, "NaN"]],
        "name": "straße",
        "3": None,
    }
    assert "straße" in text
    assert json_text({"a": [1]}, indent=None) == '{"a": [1]}\n'
    assert json.loads(json_text({"file": "\udcff.png"}).encode()) == {"file": "\udcff.png"}


@pytest.mark.parametrize("check", [check_folder, check_output_file])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (" ", "--to is empty"),
        ("n" * 300, "cannot be used: File name too long"),
        ("n" * 240, "cannot be used: File name too long"),
        ("a\0b", "cannot be used: embedded null byte"),
        ("~nobody-of-this-name/x", "cannot be used: Could not determine home directory"),
        ("file/below", '"file" is a file'),
        ("circle/x", "cannot be used: Too many levels of symbolic links"),
        ("full/x", 'nothing can be written in "full" (No space left on device)'),
        ("quota/x", 'nothing can be written in "quota" (Disk quota exceeded)'),
        ("read-only/x", 'nothing can be written in "read-only" (Read-only file system)'),
    ],
)
def test_places_that_cannot_be_written(
    check: Callable[[Path, str], None], name: str, message: str, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("circle").symlink_to("circle")
    errors = {"full": errno.ENOSPC, "quota": errno.EDQUOT, "read-only": errno.EROFS}
    for folder in errors:
        Path(folder).mkdir()

    def no_room(dir: Path) -> None:
        raise OSError(errors[Path(dir).name], os.strerror(errors[Path(dir).name]))

    if name.endswith("/x") and name[:-2] in errors:
        monkeypatch.setattr(files.tempfile, "TemporaryFile", no_room)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as raised:
        check(Path(name), "--to")
    assert message in str(raised.value).replace(f"{tmp_path}/", "")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_given_for_a_file_and_what_is_read(tmp_path):
    (tmp_path / "file").write_text("x")
    check_output_file(tmp_path / "file", "--json")
    check_output_file(tmp_path / "new" / "file", "--json")
    check_output_file(Path(os.devnull), "--json")
    check_input_file(tmp_path / "file", "--label")
    with pytest.raises(UserError, match=r'--json ".*" is a folder: a file is expected'):
        check_output_file(tmp_path, "--json")
    with pytest.raises(UserError, match=r'--label ".*" is a folder, a file is expected'):
        check_input_file(tmp_path, "--label")
    with pytest.raises(UserError, match=r'There is no file ".*" for --label'):
        check_input_file(tmp_path / "file" / "below", "--label")


@pytest.mark.skipif(sys.platform != "linux", reason="a file that even root cannot read")
def test_what_cannot_be_read_says_why():
    with pytest.raises(UserError, match='--label "/proc/self/mem" cannot be read: Input/output error'):
        check_input_file(Path("/proc/self/mem"), "--label")
    with pytest.raises(UserError, match='"/proc" \\(it is no place for files\\)'):
        check_folder(Path("/proc/x"), "--output")


def test_what_killed_processes_left_is_removed(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    mine = waiting_place(tmp_path / "elsewhere" / "a").name
    process, node = mine.removeprefix(".a.").removesuffix(".part").split("-")
    assert int(process) == os.getpid()
    left = [f".a.{int(ended.stdout)}-{node}.part", f".b c.x.{process}-{node}.part", f".old.1-{node}.part"]
    kept = [f".a.{os.getppid()}-{node}.part", ".a.1-0000.part", f"a.{int(ended.stdout)}-{node}.part", ".a.part"]
    for name in (*left, *kept):
        (tmp_path / name).write_text("")
    (tmp_path / f".folder.{int(ended.stdout)}-{node}.part" / "x").mkdir(parents=True)
    os.utime(tmp_path / left[-1], (0, 0))
    write_files({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "a", "b"])
