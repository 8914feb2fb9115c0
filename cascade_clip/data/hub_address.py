"""Datasets on the Hugging Face Hub, written `hub:ORG/NAME` or `hub:ORG/NAME@REVISION`."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from cascade_clip.data.dataset_info import INFO_FILE
from cascade_clip.errors import UserError, first_line
from cascade_clip.reachability import hub_or_cache

_PREFIXES = ("hub:", "hf://datasets/")
_NAME = re.compile(r"(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^@\s]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubAddress:
    """A dataset repository, and the branch, tag or commit that is meant."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hub:{self.repo}" + (f"@{self.revision}" if self.revision else "")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `hub:ORG/NAME[@REVISION]` or `hf://datasets/ORG/NAME[@REVISION]`; None for any other text.

        Raises UserError where the text begins so but is no such address.
        """
        prefix = next((prefix for prefix in _PREFIXES if text.startswith(prefix)), None)
        if prefix is None:
            return None
        found = _NAME.fullmatch(text.removeprefix(prefix).rstrip("/"))
        if found is None:
            raise UserError(
                f'"{text}" is no dataset on the Hub: hub:ORG/NAME is expected, or hub:ORG/NAME@REVISION for a branch, '
                "tag or commit."
            )
        return cls(found["repo"], found["revision"])

    def pinned(self) -> Self:
        """Ask the Hub, or its cache where there is no network, which commit is meant.

        A run that names a commit reads the same files when it is resumed, whatever was uploaded since. Raises UserError
        where there is no such dataset or revision, it needs a token, or the Hub cannot be reached.
        """
        if self.revision and _COMMIT.fullmatch(self.revision):
            return self
        # Unlike a question for the commit alone, fetching a file by branch leaves a note of the commit in the cache.
        file = self.file(INFO_FILE)
        if file is not None:
            return replace(self, revision=file.parent.name)
        with self._explained():
            return replace(self, revision=HfApi().dataset_info(self.repo, revision=self.revision, timeout=60.0).sha)

    def file(self, name: str) -> Path | None:
        """Fetch a small file, or find it in the Hub's cache; None where there is no such file. Raises like `pinned`."""
        with self._explained():
            try:
                return Path(hf_hub_download(self.repo, name, repo_type="dataset", revision=self.revision))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                return None

    def download(self, patterns: list[str]) -> Path:
        """Fetch files of these patterns ("data/*.parquet") into the Hub's cache, or find them there without a network.

        Gives the folder of this revision. Raises like `pinned`.
        """
        with self._explained():
            return Path(
                snapshot_download(self.repo, repo_type="dataset", revision=self.revision, allow_patterns=patterns)
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with hub_or_cache():
                yield
        except Exception as error:
            raise hub_error(error, self) from error


_REASONS: dict[type[Exception], str] = {
    GatedRepoError: (
        "{address} asks for its terms to be accepted: do so at https://huggingface.co/{page}, then log in "
        "with `hf auth login`."
    ),
    RepositoryNotFoundError: (
        "{address} is not on the Hub, or is private: check the name, or log in with `hf auth login`."
    ),
    RevisionNotFoundError: 'The {kind} "{repo}" on the Hub has no revision "{revision}".',
    OfflineModeIsEnabled: (
        "{address} is not in the cache, and the Hub cannot be asked while HF_HUB_OFFLINE is set: unset it, or give a "
        "folder."
    ),
    LocalEntryNotFoundError: (
        "{address} is not in the cache and the Hub cannot be reached: connect to the network, or give a folder."
    ),
}


def hub_error(error: Exception, address: HubAddress, *, kind: Literal["dataset", "model"] = "dataset") -> UserError:
    """Explain in one sentence why the Hub refuses a dataset or a model, and the way out."""
    repo, revision = address.repo, address.revision
    named, page = (str(address), f"datasets/{repo}") if kind == "dataset" else (f'"{repo}"', repo)
    # A file that is not in the cache is the same error with and without a network.
    offline = isinstance(error, LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE
    for refusal, text in _REASONS.items():
        if isinstance(error, refusal) or (offline and refusal is OfflineModeIsEnabled):
            return UserError(text.format(address=named, page=page, kind=kind, repo=repo, revision=revision))
    return UserError(
        f"{named} could not be fetched from the Hub ({first_line(error)}). Check the network connection, or give a"
        " folder."
    )
