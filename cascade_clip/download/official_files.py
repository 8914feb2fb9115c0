"""The official files of the benchmarks: names, addresses, checksums and terms, read from `official_files.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from cascade_clip.config.section import Section
from cascade_clip.errors import UserError, closest

_LIST = Path(__file__).with_name("official_files.toml")

_Address = Annotated[str, Field(pattern=r"^https?://")]


class OfficialFile(Section):
    """One file that a benchmark is made from."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """Name at its source, and in the folder that it is fetched into."""
    what: str
    """What it holds, to follow its name in messages."""
    addresses: tuple[_Address, ...] = ()
    """Where it is served, the best place first; empty where it can no longer be fetched."""
    unavailable: Annotated[str, Field(pattern=r"\.$")] | None = None
    """Why there is no address, a whole sentence."""
    alternative: str | None = None
    """Files with the same purpose carry the same text, and one of them is enough; unset: the file is required."""
    bytes: int | None = None
    about_bytes: int | None = None
    """Published length, rounded; for progress and disk space, never compared."""
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    sha1: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    members: dict[str, int] = Field(default_factory=dict)
    """How many files with an ending (".png") the archive holds; compared where there is no checksum."""
    unpacked: tuple[str, ...] = ()
    """Paths inside the folder that serve as well as the file itself."""

    @property
    def checksum(self) -> tuple[str, str] | None:
        """The strongest checksum that is known: name for `hashlib`, and hexadecimal digits."""
        known = (("sha256", self.sha256), ("sha1", self.sha1), ("md5", self.md5))
        return next(((name, digits) for name, digits in known if digits), None)

    @property
    def expected_bytes(self) -> int | None:
        """Length for progress and disk space, rounded where only that is known."""
        return self.bytes or self.about_bytes

    @model_validator(mode="after")
    def _has_address_or_reason(self) -> OfficialFile:
        if bool(self.addresses) == bool(self.unavailable):
            raise ValueError(f"{self.name} must have addresses, or a sentence that says why there are none")
        return self


class OfficialDataset(Section):
    """The files of one benchmark and the terms that they come under."""

    title: str
    licence: str
    """What the terms are, two or three sentences, to be shown before anything is fetched."""
    terms: tuple[_Address, ...]
    """Where the terms stand."""
    files: tuple[OfficialFile, ...]

    @property
    def choices(self) -> tuple[tuple[OfficialFile, ...], ...]:
        """Groups of files, in order; one of each group is needed."""
        groups: dict[str, list[OfficialFile]] = {}
        for file in self.files:
            groups.setdefault(file.alternative or file.name, []).append(file)
        return tuple(tuple(group) for group in groups.values())


def official_files(dataset: str) -> OfficialDataset:
    """Look up the official files of a benchmark.

    Args:
        dataset: "coco", "voc" or "context".

    Raises:
        UserError: There is no benchmark of that name.
    """
    known = _datasets()
    if dataset not in known:
        raise UserError(f'There are no official files to fetch for "{dataset}".{closest(dataset, known)}')
    return known[dataset]


@cache
def _datasets() -> dict[str, OfficialDataset]:
    content = tomllib.loads(_LIST.read_text(encoding="utf-8"))
    return {name: OfficialDataset.model_validate(section) for name, section in content.items()}
