"""The rule of output folders, at paths that are not what they look like."""

import json
from pathlib import Path

import pytest

from cascade_clip.data.dataset_info import DATASET_FOLDER
from cascade_clip.errors import UserError
from cascade_clip.output_folder import check_no_input, check_output_folder


@pytest.fixture
def dataset(tmp_path) -> Path:
    """A folder that is recognised as a prepared dataset."""
    folder = tmp_path / "mine"
    for name in DATASET_FOLDER.needed:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    folder.mkdir(exist_ok=True)
    (folder / DATASET_FOLDER.record).write_text(json.dumps(dict.fromkeys(DATASET_FOLDER.keys, 1)))
    assert DATASET_FOLDER.lies_in(folder)
    return folder


@pytest.mark.parametrize("given", ["mine", "missing/../mine", "link", "mine/."])
def test_a_dataset_is_replaced_only_where_that_is_asked_for(dataset: Path, tmp_path, given: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("mine")
    with pytest.raises(UserError, match=r"holds a prepared dataset: replace it with --overwrite"):
        check_output_folder(Path(given), DATASET_FOLDER, overwrite=False)
    check_output_folder(Path(given), DATASET_FOLDER, overwrite=True)


@pytest.mark.parametrize("given", ["mine", "missing/../mine", "link"])
@pytest.mark.parametrize("read", ["mine", "mine/a.png", "other-link/a.png"])
def test_what_is_read_is_never_the_output_or_in_it(dataset: Path, tmp_path, given: str, read: str, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("mine")
    Path("other-link").symlink_to("mine")
    (dataset / "a.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"which is read: choose another --output"):
        check_no_input(Path(given), [Path(read)])
    check_no_input(Path("elsewhere"), [Path(read)])
