"""Whether a file is the official one, and a note beside it so that many gigabytes are not hashed at every start."""

from __future__ import annotations

import hashlib
import json
import lzma
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from cascade_clip.download.official_files import OfficialFile
from cascade_clip.download.part_file import Report, read_chunks
from cascade_clip.errors import UserError
from cascade_clip.files import write_files

HEAD_BYTES = 512
"""Bytes that `head_problem` wants to see: the first block of a tar archive."""


def algorithms_for(file: OfficialFile) -> tuple[str, ...]:
    """Checksums to compute: SHA-256 for the record, and the one that is compared."""
    return tuple(dict.fromkeys(("sha256", file.checksum[0] if file.checksum else "sha256")))


def head_problem(name: str, head: bytes) -> str | None:
    """Say what the first bytes are where they do not fit the file's name.

    Args:
        name: Name with its ending.
        head: The first 512 bytes, or all where there are fewer.

    Returns:
        None where they fit, or the name ends in no known way.
    """
    kind, fits = _kind_and_fit(name.lower(), head)
    if fits:
        return None
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return f"a web page instead of {kind} (an error page, or a log-in page of your network)"
    return f"something that is not {kind}"


def _kind_and_fit(name: str, head: bytes) -> tuple[str, bool]:
    if name.endswith(".zip"):
        return "a zip archive", head.startswith((b"PK\x03\x04", b"PK\x05\x06"))
    if name.endswith((".tgz", ".gz")):
        return "a gzip archive", head.startswith(b"\x1f\x8b")
    if name.endswith(".tar"):
        return "a tar archive", _is_tar_header(head)
    if name.endswith(".json"):
        return "a JSON file", head.lstrip().startswith((b"{", b"["))
    return "a file", True


def _is_tar_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block[:HEAD_BYTES], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def find_problem(path: Path, file: OfficialFile, digests: Mapping[str, str]) -> str | None:
    """Compare a complete file with what is known of the official one.

    Args:
        path: The file, maybe under a temporary name.
        file: What it should be.
        digests: Its checksums by algorithm, those of `algorithms_for`.

    Returns:
        None where nothing speaks against it, else a phrase such as "its sha256 is ... instead of ...".
    """
    size = path.stat().st_size
    if file.bytes and size != file.bytes:
        return f"it has {size} bytes instead of {file.bytes}"
    if file.checksum:
        algorithm, expected = file.checksum
        found = digests[algorithm]
        return None if found == expected else f"its {algorithm} is {found} instead of {expected}"
    with path.open("rb") as stream:
        problem = head_problem(file.name, stream.read(HEAD_BYTES))
    return f"it is {problem}" if problem else _member_problem(path, file)


def _member_problem(path: Path, file: OfficialFile) -> str | None:
    try:
        counts = _count_members(path, file.name, file.members)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError) as error:
        return f"it cannot be read as an archive ({error})"
    for suffix, expected in file.members.items():
        if counts[suffix] != expected:
            return f"it holds {counts[suffix]} {suffix} files instead of {expected}"
    return None


def _count_members(path: Path, name: str, suffixes: Collection[str]) -> Counter[str]:
    if name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    elif name.endswith((".tar", ".tgz", ".tar.gz")):
        with tarfile.open(path) as archive:
            members = [member.name for member in archive if member.isfile()]
    else:
        return Counter()
    # macOS adds a shadow "._NAME" for every file.
    named = [PurePosixPath(member) for member in members]
    return Counter(member.suffix for member in named if member.suffix in suffixes and not member.name.startswith("._"))


def is_verified(path: Path, file: OfficialFile, report: Report) -> bool:
    """Whether the official file is there already; hashes it once and notes the result in `NAME.verified`.

    Args:
        path: Where it would be.
        file: What it should be.
        report: Called with (bytes hashed, bytes in all).

    Raises:
        UserError: Another file is there under this name, or it cannot be read.
    """
    if not path.is_file():
        return False
    state = path.stat()
    if _is_noted(path, file):
        return True
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms_for(file)}
    done = 0
    try:
        for chunk in read_chunks(path):
            for digest in digests.values():
                digest.update(chunk)
            done += len(chunk)
            report(done, state.st_size)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    found = {name: digest.hexdigest() for name, digest in digests.items()}
    problem = find_problem(path, file, found)
    if problem:
        raise UserError(
            f"{path} is not the official file: {problem}. Remove it and repeat the command to fetch it, or put the "
            "right one there."
        )
    note_verified(path, found)
    return True


def note_verified(path: Path, digests: Mapping[str, str]) -> None:
    """Remember that a file is the official one, as long as neither its length nor its time of change differ."""
    state = path.stat()
    note = {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns, **digests}
    # A folder that may only be read costs time at the next start, nothing else.
    with suppress(OSError):
        write_files({_note_path(path): (json.dumps(note, indent=1) + "\n").encode()})


def _is_noted(path: Path, file: OfficialFile) -> bool:
    try:
        note = json.loads(_note_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    state = path.stat()
    if not isinstance(note, dict) or (note.get("bytes"), note.get("mtime_ns")) != (state.st_size, state.st_mtime_ns):
        return False
    return file.checksum is None or note.get(file.checksum[0]) == file.checksum[1]


def _note_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified")
