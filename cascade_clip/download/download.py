"""Fetching the official files of a benchmark: resumable, checked, put in place only when complete.

Own code on the standard library, because the work is in what ready-made downloaders leave out: `fsspec` and the Hub's
client do not compare checksums, `pooch` does not resume, and a file here may be 19 GB from a server that drops lines.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

from filelock import FileLock, Timeout

from cascade_clip.download.file_verification import algorithms_for, find_problem, is_verified, note_verified
from cascade_clip.download.http_transfer import Patience, TransferError, transfer
from cascade_clip.download.official_files import OfficialFile, official_files
from cascade_clip.download.part_file import PartFile, Report, require_space
from cascade_clip.errors import UserError

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes done, bytes in all or None where that is unknown)."""


class NotServedError(UserError):
    """No address gives the file: the network, the servers or the mirror are at fault."""


@dataclass(frozen=True)
class ByHand:
    """A file that is not there and cannot be fetched."""

    name: str
    reason: str
    """What it is, why it cannot be fetched and where it must lie, in whole sentences."""
    needed: bool
    """False where another file that is there serves instead."""


@dataclass(frozen=True)
class Fetched:
    """What became of the files of a dataset."""

    fetched: tuple[Path, ...]
    present: tuple[Path, ...]
    """Files that were there already and are the official ones, and folders into which they were unpacked."""
    by_hand: tuple[ByHand, ...]


def fetch(
    file: OfficialFile,
    folder: Path,
    *,
    mirror: str | None = None,
    progress: Progress | None = None,
    retries: int = 5,
    timeout: float = 60.0,
    backoff: float = 1.0,
) -> Path:
    """Fetch one file, or find it fetched.

    What was received stays in `NAME.part` when the line drops or the process is killed, and the next call continues
    it if the server still has the same file. `NAME.verified` remembers that the file was checked.

    Args:
        file: What to fetch.
        folder: Where to put it; made if it is not there.
        mirror: Address of a folder that holds the file under its own name; then it is asked and no other place.
        progress: Called while bytes arrive, and while bytes that are there already are hashed.
        retries: Attempts at each address that may fail in a row without getting further, beside the first.
        timeout: Seconds without a byte after which an attempt counts as failed.
        backoff: Seconds before the second attempt, doubled for each further one.

    Returns:
        The file, complete and checked.

    Raises:
        NotServedError: No address gives it.
        UserError: It has no address, another file lies there under its name, its checksum is wrong (what was fetched
            is removed), the disk is too small, or another run is fetching it.
    """
    target = folder / file.name
    report = _report_for(file, progress)
    if is_verified(target, file, report):
        return target
    addresses = _addresses(file, mirror)
    if not addresses:
        raise UserError(_ask_for(file, folder))
    with _alone(target):
        # A run that was ahead may have completed it just now.
        if not is_verified(target, file, report):
            _fetch_from(addresses, file, target, Patience(retries, timeout, backoff), report)
    return target


def fetch_dataset(name: str, folder: Path, *, mirror: str | None = None, progress: Progress | None = None) -> Fetched:
    """Fetch what is missing of a benchmark's official files.

    Of files that serve the same purpose one is enough: one that is there, else the first that can be had.

    Args:
        name: "coco", "voc" or "context".
        folder: Where the files are put; the user's own files and unpacked folders are looked for there, too.
        mirror: As for `fetch`; it may also have files without an official address.
        progress: As for `fetch`.

    Returns:
        What was fetched, what was there, and what only the user can put there.

    Raises:
        UserError: As for `fetch`; what is complete by then stays.
    """
    choices = [_Choice(files, folder, mirror) for files in official_files(name).choices]
    open_choices = [choice for choice in choices if choice.present is None]
    _require_space_for_all(open_choices, folder)
    fetched: list[Path] = []
    present: list[Path] = []
    for choice in choices:
        if choice.present is None:
            fetched += choice.fetch(progress)
        else:
            choice.check(progress)
            present.append(choice.present)
    by_hand = [missing for choice in choices for missing in choice.missing()]
    return Fetched(tuple(fetched), tuple(present), tuple(by_hand))


class _Choice:
    """Files of which one is enough."""

    def __init__(self, files: tuple[OfficialFile, ...], folder: Path, mirror: str | None) -> None:
        self._files = files
        self._folder = folder
        self._mirror = mirror
        self._served = [file for file in files if _addresses(file, mirror)]
        self.present = next((path for file in files if (path := _find(file, folder))), None)

    @property
    def bytes_to_come(self) -> int:
        """Bytes of the file that will most likely be fetched; 0 where nobody knows."""
        if not self._served:
            return 0
        part = PartFile(self._folder / self._served[0].name, ())
        return max((self._served[0].expected_bytes or 0) - part.size, 0)

    def check(self, progress: Progress | None) -> None:
        """Compare the file that is there, if it is no unpacked folder."""
        for file in self._files:
            if self.present == self._folder / file.name:
                is_verified(self.present, file, _report_for(file, progress))

    def fetch(self, progress: Progress | None) -> list[Path]:
        """Fetch the first file that an address gives; nothing where there is no address at all."""
        failures: list[str] = []
        for file in self._served:
            try:
                self.present = fetch(file, self._folder, mirror=self._mirror, progress=progress)
            except NotServedError as error:
                failures.append(str(error))
            else:
                return [self.present]
        if failures:
            others = [_ask_for(file, self._folder) for file in self._files if file not in self._served]
            raise NotServedError(
                "\n".join([*failures, *(f"In its place another file serves. {text}" for text in others)])
            )
        return []

    def missing(self) -> list[ByHand]:
        """Files without an address that are not there."""
        return [
            ByHand(file.name, _ask_for(file, self._folder), needed=self.present is None)
            for file in self._files
            if file not in self._served and _find(file, self._folder) is None
        ]


def _require_space_for_all(choices: list[_Choice], folder: Path) -> None:
    """Say at once what would otherwise come to light after hours."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    require_space(existing, sum(choice.bytes_to_come for choice in choices), "What is to be fetched")


def _find(file: OfficialFile, folder: Path) -> Path | None:
    """The file, or a folder that it was unpacked into."""
    for place in (folder / file.name, *(folder / path for path in file.unpacked)):
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            return place
    return None


def _ask_for(file: OfficialFile, folder: Path) -> str:
    return f"{file.name} ({file.what}) cannot be fetched. {file.unavailable} Put it into {folder}."


def _addresses(file: OfficialFile, mirror: str | None) -> tuple[str, ...]:
    if mirror is None:
        return file.addresses
    parts = urlsplit(mirror)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise UserError(f'The mirror must be an address that begins with http:// or https://; got "{mirror}".')
    return (f"{mirror.rstrip('/')}/{quote(file.name)}",)


def _report_for(file: OfficialFile, progress: Progress | None) -> Report:
    return partial(progress, file.name) if progress else lambda _done, _total: None


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keep other runs away from this file while the block works."""
    folder = target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"The folder {folder} cannot be written; give another one.")
    try:
        with FileLock(folder / f".{target.name}.lock").acquire(timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"{target.name} is being fetched into {folder} by another run; wait for it to end, then repeat the command."
        ) from error


def _fetch_from(
    addresses: tuple[str, ...], file: OfficialFile, target: Path, patience: Patience, report: Report
) -> None:
    part = PartFile(target, algorithms_for(file))
    require_space(target.parent, max((file.expected_bytes or 0) - part.size, 0), file.name)
    failures: list[str] = []
    for address in addresses:
        try:
            transfer(file, address, part, patience, report)
        except TransferError as failure:
            failures.append(f"{address} {failure}")
        else:
            _put_in_place(part, file, address, target)
            return
    raise NotServedError(
        f"{file.name} could not be fetched: {'; '.join(failures)}. Try again later, give --mirror URL, or put the file "
        f"into {target.parent} yourself."
    )


def _put_in_place(part: PartFile, file: OfficialFile, address: str, target: Path) -> None:
    problem = find_problem(part.path, file, part.digests)
    if problem:
        part.discard()
        raise UserError(
            f"{file.name} from {address} is damaged or another file: {problem}. It has been removed; repeat the "
            "command, or give --mirror URL."
        )
    part.finish()
    note_verified(target, part.digests)
