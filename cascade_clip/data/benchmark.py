"""Facts about a benchmark: its published counts, its terms, its official files, and what was released for it.

They are the section `[benchmark]` of `benchmarks/NAME.toml`, below the class list and the splits.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cascade_clip.config.section import Section

_Address = Annotated[str, Field(pattern=r"^https?://")]


class OfficialFile(Section):
    """One file that a benchmark is made from."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """Name at its source, and in the folder that it is downloaded into."""
    what: str
    """What it holds, to follow its name in messages."""
    addresses: tuple[_Address, ...] = ()
    """Where it is served, the best place first; empty where it can no longer be downloaded."""
    unavailable: Annotated[str, Field(pattern=r"\.$")] | None = None
    """Why there is no address, a whole sentence."""
    alternative: str | None = None
    """Files with the same purpose carry the same text, and one of them is enough; None: the file is required."""
    bytes: int | None = None
    about_bytes: int | None = None
    """Published length, rounded; for progress and disk space, never compared."""
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    sha1: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    members: dict[str, int] = Field(default_factory=dict)
    """How many files of an ending (".png") the archive holds; compared where there is no checksum."""
    unpacked: tuple[str, ...] = ()
    """Paths inside the folder that serve as well as the file itself."""

    @property
    def checksum(self) -> tuple[str, str] | None:
        """The strongest checksum that is known: name for `hashlib`, and hexadecimal digits."""
        known = (("sha256", self.sha256), ("sha1", self.sha1), ("md5", self.md5))
        return next(((name, digits) for name, digits in known if digits), None)

    @property
    def expected_bytes(self) -> int:
        """Length for progress and disk space; 0: not known."""
        return self.bytes or self.about_bytes or 0

    @model_validator(mode="after")
    def _has_address_or_reason(self) -> OfficialFile:
        if bool(self.addresses) == bool(self.unavailable):
            raise ValueError(f"{self.name} must have addresses, or a sentence that says why there are none")
        return self


class Benchmark(Section):
    """A published dataset: everything about it that is a fact and not code."""

    title: str
    """Its published name, for messages."""
    counts: dict[str, int]
    """Published numbers of images: "train", "val", and whatever else its preparation compares."""
    paper: str | None = None
    """Its name in the paper's tables (`evaluation/published.json`); None: the paper has no figure for it."""
    templates: Literal["single", "multi"] = "multi"
    """Prompt templates of the released text embeddings: one sentence or fifteen (SPEC section 2)."""
    self_training_batch_factor: int = 1
    """By how much released self-training multiplies the batch of inductive training (SPEC section 11)."""
    may_be_published: bool
    """Whether anybody may pass the images on."""
    files_of: str | None = None
    """Another benchmark that is made from the same files: they, the licence and the terms are its."""
    only: tuple[str, ...] = ()
    """Names of those of its files that are needed; empty: all of them."""
    licence: str = ""
    """What the terms are, two or three sentences, shown before anything is downloaded."""
    terms: tuple[_Address, ...] = ()
    """Addresses of the terms."""
    files: tuple[OfficialFile, ...] = ()

    @model_validator(mode="after")
    def _has_files_and_licence(self) -> Benchmark:
        if bool(self.files_of) == bool(self.files and self.licence):
            raise ValueError("give files and licence, or the benchmark that has them as files_of")
        return self

    def with_files_of(self, other: Benchmark) -> Benchmark:
        """This benchmark with the licence, the terms and the needed files of another one."""
        files = tuple(file for file in other.files if file.name in self.only or not self.only)
        return self.changed(licence=other.licence, terms=other.terms, files=files)

    @property
    def choices(self) -> tuple[tuple[OfficialFile, ...], ...]:
        """Groups of files, in order; one of each group is needed."""
        groups: dict[str, list[OfficialFile]] = {}
        for file in self.files:
            groups.setdefault(file.alternative or file.name, []).append(file)
        return tuple(tuple(group) for group in groups.values())
