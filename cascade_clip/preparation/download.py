"""Downloading one file that may have 19 GB: continued after an interruption, by the same or a later process.

`requests` does most of it; of ready-made downloaders, `pooch` does not continue, and `fsspec` and the Hub's client do
not after the process was killed.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

import cascade_clip
from cascade_clip.data.benchmark import OfficialFile
from cascade_clip.errors import UserError
from cascade_clip.progress import Progress

log = logging.getLogger(__name__)

CHUNK = 1 << 20
RETRIES = 5
"""Attempts at each address that may fail in a row without getting further, beside the first."""
TIMEOUT = 60.0
"""Seconds without a byte after which an attempt counts as failed."""
BACKOFF = 1.0
"""The second attempt follows at once, the third after twice so many seconds, each further one after twice the last
pause, at most a minute; or as the server asks, at most five minutes."""

_WORTH_TRYING_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_LONGEST_PAUSE = 60.0
_LONGEST_REQUESTED_PAUSE = 300.0
_CONSIDERABLE = 1 << 20
"""Bytes that an attempt must add for the count of failures to start anew: a bad line may drop 19 GB a hundred times."""


class TransferError(Exception):
    """An address does not give the file; the message continues the sentence that begins with the address."""


class _InterruptionError(Exception):
    """The transfer broke off; another request may continue it or start anew."""

    def __init__(self, message: str, requested_pause: str = "") -> None:
        super().__init__(message)
        self.pause = min(float(requested_pause), _LONGEST_REQUESTED_PAUSE) if requested_pause.isdecimal() else None


@dataclass(frozen=True)
class Download:
    """One file on its way: `NAME.part` holds the bytes so far, `NAME.part.version` the server's name of the version.

    Nothing is asked for at first; `progress` is called as by `cascade_clip.preparation.official_files.fetch`.
    """

    file: OfficialFile
    target: Path
    progress: Progress | None

    @property
    def part(self) -> Path:
        """File of the bytes so far."""
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def _version_path(self) -> Path:
        return self.part.with_name(f"{self.part.name}.version")

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def discard(self) -> None:
        """Remove what was received."""
        self.part.unlink(missing_ok=True)
        self._version_path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Move the complete file to its place."""
        self.part.replace(self.target)
        self._version_path.unlink(missing_ok=True)

    def complete(self, addresses: Sequence[str]) -> str:
        """Complete the part from the first address that gives the file, and return that address.

        Raises TransferError where none of them gives it, and UserError where the disk is full or cannot be written;
        what was received stays.
        """
        failures: list[str] = []
        with requests.Session() as session:
            agent = f"cascade-clip/{cascade_clip.__version__}"
            session.headers.update({"User-Agent": agent, "Accept-Encoding": "identity"})
            for address in addresses:
                try:
                    self._complete_from(address, session)
                except TransferError as failure:
                    failures.append(f"{address} {failure}")
                else:
                    return address
        raise TransferError("; ".join(failures))

    def _complete_from(self, address: str, session: requests.Session) -> None:
        """Ask one address until the part is complete."""
        failed = 0
        while True:
            before = self.size
            try:
                self._request(address, session)
                return
            except _InterruptionError as failure:
                failed = 1 if self.size >= before + _CONSIDERABLE else failed + 1
                if failed > RETRIES:
                    raise TransferError(str(failure)) from failure
                log.info("%s: %s %s; trying again.", self.file.name, address, failure)
                own = min(BACKOFF * 2 ** (failed - 1), _LONGEST_PAUSE) if failed > 1 else 0.0
                time.sleep(own if failure.pause is None else failure.pause)

    def _request(self, address: str, session: requests.Session) -> None:
        size = self.size
        if size and size == self.file.bytes:
            return
        asked = self._range()
        try:
            response = session.get(address, headers=asked, stream=True, timeout=TIMEOUT)
        except requests.RequestException as error:
            passing = isinstance(error, (requests.ConnectionError, requests.Timeout))
            passing = passing and not isinstance(error, requests.exceptions.SSLError)  # no certificate mends itself
            failure = _InterruptionError if passing else TransferError
            raise failure(f"cannot be reached ({_reason(error)})") from error
        with response:
            if response.status_code == 416:
                if response.headers.get("Content-Range", "").rpartition("/")[2] == str(size):
                    return
                self.discard()
                raise _InterruptionError("cannot continue the part that was begun")
            answered = f"answered {response.status_code} {response.reason}".rstrip()
            if response.status_code in _WORTH_TRYING_AGAIN:
                raise _InterruptionError(answered, response.headers.get("Retry-After", "").strip())
            if response.status_code not in (200, 206):
                raise TransferError(answered)
            self._receive(response, asked.get("If-Range", ""))

    def _range(self) -> dict[str, str]:
        """Headers that ask for the rest, if the server still has the file that was begun.

        Without a version from the server, only the checksum can tell whether the pieces fit.
        """
        version = self._version_path.read_text(encoding="utf-8") if self._version_path.is_file() else ""
        if not self.size or not (version or self.file.checksum):
            return {}
        return {"Range": f"bytes={self.size}-"} | ({"If-Range": version} if version else {})

    def _receive(self, response: requests.Response, begun: str) -> None:
        """Append what the server sends, from the start of the file or from the end of the part of version `begun`."""
        start, total = _start_and_total(response)
        etag = response.headers.get("ETag", "")
        version = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
        now = response.headers.get("ETag" if begun.startswith('"') else "Last-Modified", begun) if begun else ""
        if start and (start != self.size or now != begun):  # not every server obeys If-Range
            self.discard()
            raise _InterruptionError("has another file now than the one that was begun")
        if self.file.bytes and total not in (0, self.file.bytes):
            raise TransferError(f"announces {total} bytes where {self.file.bytes} are expected")
        chunks = _chunks(response)
        first = next(chunks, b"")
        if not start and first.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
            raise TransferError("sent a web page (an error page, or a log-in page of your network)")
        total = self.file.bytes or total
        try:
            if not start:
                require_space(total, self.part.parent, self.file.name)
                self.discard()
                self._version_path.write_text(version, encoding="utf-8")
            with self.part.open("ab") as stream:
                for chunk in chain([first], chunks):
                    stream.write(chunk)
                    stream.flush()  # a killed process loses nothing of what arrived
                    if self.progress:
                        self.progress(stream.tell(), total or self.file.expected_bytes, self.file.name)
        except OSError as error:
            raise UserError(
                f"{self.part} could not be written: {error.strerror}. What was downloaded stays; free some space or "
                "make it writable, and repeat the command to continue."
            ) from error
        if self.size < total:
            raise _InterruptionError(f"broke off after {self.size} of {total} bytes")


def _start_and_total(response: requests.Response) -> tuple[int, int]:
    """Where the content of an answer starts in the file, and the length of the whole; 0: not known."""
    start, total = 0, response.headers.get("Content-Length", "")
    if response.status_code == 206:
        found = re.fullmatch(r"\s*bytes\s+(\d+)-\d+/(\d+|\*)\s*", response.headers.get("Content-Range", ""))
        if found is None:
            raise TransferError("answered with a part of the file and did not say which")
        start, total = int(found[1]), found[2]
    return start, int(total) if total.isdigit() else 0


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """The body as it arrives, without decompressing what the server calls a content encoding."""
    try:
        while chunk := response.raw.read1(CHUNK, decode_content=False):
            yield chunk
    except HTTPError as error:
        raise _InterruptionError(f"broke off ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    """The words of the innermost error, which `requests` and `urllib3` wrap several times."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def require_space(wanted: int, folder: Path, what: str) -> None:
    """Raise UserError where so many bytes do not fit the disk, instead of failing after hours."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(existing).free
    if free < wanted:
        raise UserError(
            f"{what} needs {wanted / 1e9:.2f} GB more in {folder}, where only {free / 1e9:.2f} GB are free. "
            "Free some space or give another folder."
        )
