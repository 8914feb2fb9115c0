"""The official files of a benchmark: which of them are there, downloading the others, and whether they are right."""

import hashlib
import json
import tarfile
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from cascade_clip.data.benchmark import OfficialFile
from cascade_clip.data.catalogue import benchmark
from cascade_clip.errors import UserError
from cascade_clip.files import check_folder, json_text, write_files
from cascade_clip.output_folder import only_writer
from cascade_clip.preparation.archives import READ_ERRORS
from cascade_clip.preparation.download import CHUNK, Download, TransferError, require_space
from cascade_clip.progress import Progress
from cascade_clip.reachability import why_unreachable


class NotServedError(UserError):
    """No address gives the file: the network, the servers or the mirror are at fault."""


def fetch_dataset(
    name: str, folder: Path, *, mirror: str | None = None, progress: Progress | None = None
) -> list[Path]:
    """Download the missing ones of a benchmark's official files; gives those that were downloaded.

    Of files that serve the same purpose one is enough: one that is there, the user's own files and unpacked folders
    included, else the first that can be downloaded. Mirror and progress are as for `fetch`; a mirror may also have
    files without an official address. Raises UserError as `fetch`, and where there is no such benchmark, all files
    together do not fit the disk, or only the user can put a file there (all others are downloaded first). Complete
    files stay.
    """
    wanted: list[tuple[OfficialFile, ...]] = []
    for files in benchmark(name).choices:
        there = next((file for file in files if _is_there(file, folder)), None)
        if there is None:
            wanted.append(files)
        else:
            _is_verified(folder / there.name, there, progress)
    served = [[file for file in files if _addresses(file, mirror)] for files in wanted]
    firsts = [Download(some[0], folder / some[0].name, progress) for some in served if some]
    require_space(sum(max(one.file.expected_bytes - one.size, 0) for one in firsts), folder, "The download")
    _check_network([address for some in served for file in some for address in _addresses(file, mirror)], folder)
    fetched, missing = list[Path](), list[str]()
    for files, some in zip(wanted, served, strict=True):
        asked = [_ask_for(file, folder) for file in files if file not in some]
        if some:
            fetched.append(_fetch_first(some, asked, folder, mirror, progress))
        else:
            missing += asked
    if missing:
        raise UserError("\n".join(missing))
    return fetched


def fetch(file: OfficialFile, folder: Path, *, mirror: str | None = None, progress: Progress | None = None) -> Path:
    """Download one file, unless it is there already, and return its path, complete and checked.

    When the connection drops or the process is killed, `NAME.part` keeps what was received, and where a checksum is
    known the next call continues it. `NAME.verified` records that the file was checked. Proxy variables of the
    environment are respected.

    Args:
        file: What to download.
        folder: Folder for the file; made if necessary.
        mirror: Address of a folder that holds the file under its own name; no other place is asked then.
        progress: Called with (bytes done, bytes in all or 0, file name) while bytes arrive or are hashed.

    Raises:
        NotServedError: No address gives it.
        UserError: It has no address, another file of its name is there, its checksum is wrong (what was downloaded is
            removed), the disk is too small, or another run is downloading it.
    """
    target = folder / file.name
    if _is_verified(target, file, progress):
        return target
    addresses = _addresses(file, mirror)
    if not addresses:
        raise UserError(_ask_for(file, folder))
    check_folder(folder, "The folder of the download")
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(target):
        if _is_verified(target, file, progress):  # a run that was ahead has completed it just now
            return target
        download = Download(file, target, progress)
        require_space(file.expected_bytes - download.size, folder, file.name)
        try:
            address = download.complete(addresses)
        except TransferError as error:
            raise NotServedError(
                f"{file.name} could not be downloaded: {error}. Try again later, give --mirror URL, or put the file "
                f"into {folder} yourself."
            ) from error
        problem = _find_problem(download.part, file, progress)
        if problem:
            download.part.unlink()
            raise UserError(
                f"{file.name} from {address} is damaged or another file: {problem}. It has been removed; repeat the "
                "command, or give --mirror URL."
            )
        download.part.replace(target)
        _note_verified(target, file)
    return target


def _find_problem(path: Path, file: OfficialFile, progress: Progress | None) -> str | None:
    """What differs from the official file, as in "its sha256 is ... instead of ..."; None: nothing.

    The length is compared first, then the strongest known checksum, else the number of files in the archive.
    """
    size = path.stat().st_size
    if file.bytes and size != file.bytes:
        return f"it has {size} bytes instead of {file.bytes}"
    if file.checksum is None:
        return _member_problem(path, file)
    algorithm, expected = file.checksum
    digest, done = hashlib.new(algorithm, usedforsecurity=False), 0
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                if progress:
                    progress(done, size, f"checking {file.name}")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    found = digest.hexdigest()
    return None if found == expected else f"its {algorithm} is {found} instead of {expected}"


def _member_problem(path: Path, file: OfficialFile) -> str | None:
    if not file.members:
        return None
    try:
        if file.name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
        else:
            with tarfile.open(path) as tar:
                members = tar.getnames()
    except READ_ERRORS as error:
        return f"it cannot be read as an archive ({error})"
    # macOS adds a shadow "._NAME" for every file.
    names = [name for member in members if not (name := PurePosixPath(member).name).startswith("._")]
    for suffix, expected in file.members.items():
        count = sum(name.endswith(suffix) for name in names)
        if count != expected:
            return f"it holds {count} {suffix} files instead of {expected}"
    return None


def _is_verified(path: Path, file: OfficialFile, progress: Progress | None) -> bool:
    """Whether the official file is there; it is read once, and `NAME.verified` remembers the result."""
    if not path.is_file():
        return False
    try:
        note = json.loads(path.with_name(f"{path.name}.verified").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        note = None
    # An entry more is a checksum that an earlier version noted.
    if isinstance(note, dict) and _state(path, file).items() <= note.items():
        return True
    problem = _find_problem(path, file, progress)
    if problem:
        raise UserError(
            f"{path} is not the official file: {problem}. Remove it and repeat the command to download it, or put the "
            "right one there."
        )
    _note_verified(path, file)
    return True


def _note_verified(path: Path, file: OfficialFile) -> None:
    """Remember that a file is the official one, until its length or its time of change differ."""
    # A folder that may only be read costs time at the next start, nothing else.
    with suppress(OSError):
        note = path.with_name(f"{path.name}.verified")
        write_files({note: json_text(_state(path, file), indent=1).encode()})


def _state(path: Path, file: OfficialFile) -> dict[str, str | int]:
    state = path.stat()
    return {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns} | dict([file.checksum] if file.checksum else [])


def _fetch_first(
    served: Iterable[OfficialFile], others: Iterable[str], folder: Path, mirror: str | None, progress: Progress | None
) -> Path:
    """Download the first of these files that an address gives; `others` asks for those in their place without one."""
    failures: list[str] = []
    for file in served:
        try:
            return fetch(file, folder, mirror=mirror, progress=progress)
        except NotServedError as error:
            failures.append(str(error))
    raise NotServedError("\n".join([*failures, *(f"In its place another file serves. {text}" for text in others)]))


def _is_there(file: OfficialFile, folder: Path) -> bool:
    """Whether the file, or a folder that it was unpacked into, is there."""
    places = [folder / file.name, *(folder / path for path in file.unpacked)]
    return any(place.is_file() or (place.is_dir() and any(place.iterdir())) for place in places)


def _ask_for(file: OfficialFile, folder: Path) -> str:
    return f"{file.name} ({file.what}) cannot be downloaded. {file.unavailable} Put it into {folder}."


def _addresses(file: OfficialFile, mirror: str | None) -> tuple[str, ...]:
    if mirror is None:
        return file.addresses
    parts = urlsplit(mirror)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise UserError(f'The mirror must be an address that begins with http:// or https://; got "{mirror}".')
    return (f"{mirror.rstrip('/')}/{quote(file.name)}",)


def _check_network(addresses: Iterable[str], folder: Path) -> None:
    """Raise NotServedError within seconds where no server answers, not after all attempts at every file."""
    servers = {urlsplit(address).netloc: address for address in addresses}
    reasons: list[str] = []
    for server, address in list(servers.items())[:2]:
        if (reason := why_unreachable(address)) is None:
            return
        reasons.append(f"{server} cannot be reached ({reason})")
    if reasons:
        raise NotServedError(
            f"Nothing can be downloaded: {'; '.join(reasons)}. Connect to the internet and repeat the command, or put"
            f" the official files into {folder} yourself."
        )
