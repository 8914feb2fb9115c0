"""Uploading a prepared dataset to the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from cascade_clip.data.catalogue import benchmark, benchmark_names, get_split
from cascade_clip.data.dataset_info import INFO_FILE, DatasetInfo, read_dataset_info
from cascade_clip.data.dataset_location import LINK_FILE
from cascade_clip.data.records import check_shard_files
from cascade_clip.errors import UserError, counted, first_line
from cascade_clip.reachability import uploading_to_hub


def push_dataset(folder: Path, repo_id: str, *, private: bool = False, rights_checked: bool = False) -> str:
    """Upload a prepared dataset byte for byte, and return the repository's address.

    Both `datasets.load_dataset("ORG/NAME")` and `--data hub:ORG/NAME` read it then, with and without a stream
    (`datasets.Dataset.push_to_hub` would write other shards and leave `dataset.json` behind). Other shards of an
    earlier upload are deleted in the same step; what an interrupted upload has sent is not sent again.

    Args:
        folder: Folder of a prepared dataset.
        repo_id: `ORG/NAME`; made where it does not exist.
        private: Make the repository visible to its owner alone; an existing public one is refused.
        rights_checked: The user may publish the images. Without it, benchmarks whose images belong to their
            photographers are uploaded to private repositories only.

    Raises:
        UserError: The folder is no complete prepared dataset, the images may not be published, or the Hub refuses
            or cannot be reached.
    """
    info = read_dataset_info(folder)
    if (folder / LINK_FILE).is_file():
        raise UserError(f"{folder} holds no images, only the place where they are: prepare the dataset first.")
    check_shard_files(folder, info)
    repository = repository_name(repo_id)
    if not private and not rights_checked:
        check_publishing(str(info.options.get("from")), info.classes)
    with uploading_to_hub(repository):
        return _upload(folder, info, repository, private=private)


def repository_name(repo_id: str) -> str:
    """Name `ORG/NAME` of a dataset on the Hub, with or without "hub:" before it; raises UserError if it is none."""
    name = repo_id.removeprefix("hub:")
    try:
        validate_repo_id(name)
        reason = "" if name.count("/") == 1 else "."
    except HFValidationError as error:
        reason = f" ({first_line(error)})."
    if reason:
        raise UserError(f'"{repo_id}" is no name for a dataset on the Hub: ORG/NAME is expected{reason}')
    return name


def check_publishing(origin: str, classes: tuple[str, ...] = ()) -> None:
    """Raise UserError where a dataset of this source, or with these classes, holds images that may not be published."""
    for name in benchmark_names():
        if not benchmark(name).may_be_published and (origin == name or classes == get_split(name).class_names):
            raise UserError(
                f"The images of {benchmark(name).title} belong to the people who took them, and its terms do not "
                "allow you to publish them: upload the dataset with --private, or with --rights-checked where you hold "
                "the rights."
            )


def _upload(folder: Path, info: DatasetInfo, repo_id: str, *, private: bool) -> str:
    api = HfApi()
    url = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    if private and not api.dataset_info(repo_id).private:
        raise UserError(f"{url} exists already and is public: make it private there, or choose another name.")
    api.upload_folder(
        repo_id=repo_id,
        repo_type="dataset",
        folder_path=folder,
        allow_patterns=[INFO_FILE, "README.md", *(name for part in info.parts.values() for name in part.shards)],
        delete_patterns=["data/*.parquet"],
        commit_message=f"{info.name}: {counted(info.images, 'image')}",
    )
    return str(url)
