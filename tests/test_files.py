import os
import subprocess
import sys
from pathlib import Path

import pytest

from cascade_clip.errors import UserError
from cascade_clip.files import cache_folder, check_folder, data_folder, waiting_place, write_files


@pytest.mark.skipif(sys.platform != "linux", reason="each system has its own places")
def test_the_users_folders(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_all_files_are_written_or_none(tmp_path: Path):
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


def test_folders_are_checked_and_not_made(tmp_path: Path):
    check_folder(tmp_path / "x" / "y", "--pictures")
    check_folder(tmp_path, "--pictures")
    assert not (tmp_path / "x").exists()
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r'--report ".*" is no folder: ".*file" is a file\. Choose another'):
            check_folder(folder, "--report")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_told(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="you may not write in"):
        check_folder(tmp_path / "x", "--report")


def test_what_killed_processes_left_is_removed(tmp_path: Path):
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
