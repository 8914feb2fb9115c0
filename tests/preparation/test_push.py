"""Uploading a prepared dataset, and reading back what lies on the Hub then."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import datasets
import pytest
from fake_hub import fake_hub
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import filter_repo_objects
from tiny_data import draw

from cascade_clip.data.catalogue import get_split
from cascade_clip.data.dataset_location import dataset_folder
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.errors import UserError
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.push import push_dataset
from cascade_clip.preparation.shards import ImageSource


class _Repository:
    """The part of `HfApi` that is used, with a folder for a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private: bool | None = None
        self.failure: Exception | None = None
        self.asked: dict[str, Any] = {}

    def __call__(self) -> Self:
        return self

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> str:
        assert repo_type == "dataset"
        assert exist_ok
        if self.private is None:
            self.private = private
        return f"https://huggingface.co/datasets/{repo_id}"

    def dataset_info(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def upload_folder(
        self, *, folder_path: Path, allow_patterns: list[str], delete_patterns: list[str], **more: Any
    ) -> None:
        if self.failure:
            raise self.failure
        self.asked = more
        there = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]
        for name in filter_repo_objects(there, allow_patterns=delete_patterns):
            (self.folder / name).unlink()
        given = [path.relative_to(folder_path).as_posix() for path in folder_path.rglob("*") if path.is_file()]
        for name in filter_repo_objects(given, allow_patterns=allow_patterns):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder_path / name, self.folder / name)


@pytest.fixture
def repository(tmp_path, monkeypatch) -> _Repository:
    (tmp_path / "repository").mkdir()
    found = _Repository(tmp_path / "repository")
    monkeypatch.setattr("cascade_clip.preparation.push.HfApi", found)
    return found


@pytest.mark.usefixtures("own_datasets_cache")
def test_what_was_uploaded_is_read_back_by_everyone(squares: Path, repository: _Repository, tmp_path, monkeypatch):
    old = repository.folder / "data" / "train-00001-of-00002.parquet"
    old.parent.mkdir()
    old.write_bytes(b"of an earlier upload")
    (squares / "notes.txt").write_text("not for others")
    try:
        url = push_dataset(squares, "org/squares", private=True)
    finally:
        (squares / "notes.txt").unlink()
    assert url == "https://huggingface.co/datasets/org/squares"
    assert repository.private
    expected = {"repo_id": "org/squares", "repo_type": "dataset"}
    assert repository.asked == {**expected, "commit_message": "squares: 13 images"}
    found = {path.name: path.read_bytes() for path in repository.folder.rglob("*") if path.is_file()}
    assert found == {path.name: path.read_bytes() for path in squares.rglob("*") if path.is_file()}
    with fake_hub(org__squares=repository.folder) as hub:
        hub.take_the_hubs_place(monkeypatch, tmp_path)
        rows = datasets.load_dataset("org/squares", split="val")
        assert (len(rows), rows[1]["id"], rows[1]["label"].mode) == (3, "v1", "L")
        assert next(iter(datasets.load_dataset("org/squares", split="train", streaming=True)))["id"] == "t0"
        for stream in (False, True):
            dataset = PreparedDataset.open(dataset_folder("hub:org/squares", stream=stream))
            assert [dataset.read("train", index).id for index in range(10)] == [f"t{index}" for index in range(10)]


def _write(folder: Path, classes: tuple[str, ...], **options: str) -> Path:
    parts = {"train": [ImageSource("a", 1)]}
    write_prepared(folder, name="squares", classes=classes, parts=parts, load=draw, options=options)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize(
    ("origin", "split", "title"),
    [("voc", None, "PASCAL VOC"), ("hub", "coco", "COCO-Stuff"), ("x", "context", "PASCAL C")],
)
def test_images_of_others_are_not_published_by_mistake(
    repository: _Repository, tmp_path, origin: str, split: str | None, title: str
):
    classes = get_split(split).class_names if split else ("a", "b", "c")
    folder = _write(tmp_path / "set", classes, **{"from": origin})
    with pytest.raises(
        UserError, match=rf"^The images of {title}.*: upload the dataset with --private, or with --rights-checked"
    ):
        push_dataset(folder, "org/squares")
    assert repository.private is None
    push_dataset(folder, "org/squares", rights_checked=True)
    assert repository.private is False
    repository.private = None
    push_dataset(folder, "org/squares", private=True)
    assert repository.private is True


def test_a_public_repository_does_not_become_private_by_itself(squares: Path, repository: _Repository):
    repository.private = False
    with pytest.raises(UserError, match="exists already and is public: make it private there, or choose another name"):
        push_dataset(squares, "org/squares", private=True)
    assert not list(repository.folder.iterdir())


def test_mistakes_are_one_sentence(squares: Path, repository: _Repository, tmp_path, monkeypatch):
    for name in ("squares", "a/b/c", "org/"):
        with pytest.raises(UserError, match=r"is no (name for a )?dataset on the Hub: .*ORG/NAME is expected"):
            push_dataset(squares, name)
    with pytest.raises(UserError, match="is no prepared dataset"):
        push_dataset(tmp_path, "org/squares")
    broken = shutil.copytree(squares, tmp_path / "broken")
    (broken / "data" / "val-00000-of-00001.parquet").unlink()
    with pytest.raises(UserError, match="is missing"):
        push_dataset(broken, "org/squares")
    link = dataset_folder(f"file://{squares}", stream=True)
    assert PreparedDataset.open(link).count("val") == 3
    with pytest.raises(UserError, match="holds no images, only the place where they are"):
        push_dataset(link, "org/squares")
    refused = HfHubHTTPError("no", response=_response(403))
    for failure, message in (
        (LocalTokenNotFoundError("no token"), "The Hub does not let you write to .*`hf auth login`"),
        (refused, "The Hub does not let you write to"),
        (ConnectionError("gone"), r"The upload to \"org/squares\" failed \(gone\)\. Repeat the command"),
    ):
        repository.failure = failure
        with pytest.raises(UserError, match=message):
            push_dataset(squares, "org/squares")
    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match='"org/squares" cannot be uploaded to while HF_HUB_OFFLINE is set: unset it'):
        push_dataset(squares, "org/squares")


def _response(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None, text="", url="")
