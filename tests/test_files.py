import os
import sys
from pathlib import Path

import pytest

from cascade_clip.errors import UserError
from cascade_clip.files import cache_folder, check_folder, data_folder, write_files


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


def test_all_files_are_written_and_nothing_else(tmp_path: Path):
    write_files({tmp_path / "new" / "a": b"1", tmp_path / "b": b"2"})
    assert {path.name for path in tmp_path.rglob("*")} == {"new", "a", "b"}
    assert (tmp_path / "new" / "a").read_bytes() == b"1"


def test_when_one_cannot_be_written_none_is_replaced(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_files({tmp_path / "a": b"new", tmp_path / "file" / "b": b"2"})
    assert (tmp_path / "a").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "file"}


def test_a_folder_that_can_be_made_is_accepted_and_not_made(tmp_path: Path):
    check_folder(tmp_path / "x" / "y", "--pictures")
    check_folder(tmp_path, "--pictures")
    assert not (tmp_path / "x").exists()


def test_a_file_in_the_way_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r'--report ".*" is no folder: ".*file" is a file\. Choose another'):
            check_folder(folder, "--report")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_told(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="you may not write in"):
        check_folder(tmp_path / "x", "--report")
