"""Downloading one file that may have 19 GB: continued after an interruption, by the same or a later process.

`requests` does most of it; of ready-made downloaders, `pooch` does not continue, and `fsspec` and the Hub's client do
not after the process was killed.
"""

import logging
import re
import shutil
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

import cascade_clip
from cascade_clip.data.benchmark import OfficialFile
from cascade_clip.errors import UserError, innermost_reason
from cascade_clip.progress import Progress

log = logging.getLogger(__name__)

CHUNK = 1 << 20
RETRIES = 5
"""Attempts at each address that may fail in a row without getting further, beside the first."""
TIMEOUT = 60.0
"""Seconds without a byte after which an attempt counts as failed."""
BACKOFF = 1.0
"""The pause before the second attempt in seconds; each further one is twice the last, at most a minute."""

_WORTH_TRYING_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_CONSIDERABLE = 1 << 20
"""Bytes that an attempt must add for the count of failures to start anew: a bad line may drop 19 GB a hundred times."""


class TransferError(Exception):
    """An address does not give the file; the message continues the sentence that begins with the address."""


class _InterruptionError(Exception):
    """The transfer broke off; another request may continue it or start anew."""


class Download:
    """One file on its way; `NAME.part` holds the bytes so far. `progress` is called as by `official_files.fetch`."""

    def __init__(self, file: OfficialFile, target: Path, progress: Progress | None) -> None:
        self.file = file
        self.part = target.with_name(f"{target.name}.part")
        self._progress = progress
        self._version = ""
        """The server's name of the version that was begun; empty: not known."""

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return self.part.stat().st_size if self.part.is_file() else 0

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
                return self._request(address, session)
            except _InterruptionError as failure:
                failed = 1 if self.size >= before + _CONSIDERABLE else failed + 1
                if failed > RETRIES:
                    raise TransferError(str(failure)) from failure
                log.info("%s: %s %s; trying again.", self.file.name, address, failure)
                time.sleep(min(BACKOFF * 2 ** (failed - 1), 60))

    def _request(self, address: str, session: requests.Session) -> None:
        size = self.size
        if size and size == self.file.bytes:
            return
        asked: dict[str, str] = {}
        # Without a version from the server, only the checksum can tell whether the pieces fit.
        if size and (self._version or self.file.checksum):
            asked = {"Range": f"bytes={size}-"} | ({"If-Range": self._version} if self._version else {})
        try:
            response = session.get(address, headers=asked, stream=True, timeout=TIMEOUT)
        except requests.RequestException as error:
            passing = isinstance(error, (requests.ConnectionError, requests.Timeout))
            passing = passing and not isinstance(error, requests.exceptions.SSLError)  # no certificate mends itself
            failure = _InterruptionError if passing else TransferError
            raise failure(f"cannot be reached ({innermost_reason(error)})") from error
        with response:
            answered = f"answered {response.status_code} {response.reason}".rstrip()
            if response.status_code == 416:
                if response.headers.get("Content-Range", "").rpartition("/")[2] == str(size):
                    return
                self.part.unlink(missing_ok=True)
                raise _InterruptionError("cannot continue the part that was begun")
            if response.status_code in _WORTH_TRYING_AGAIN:
                raise _InterruptionError(answered)
            if response.status_code not in (200, 206):
                raise TransferError(answered)
            self._receive(response, size)

    def _receive(self, response: requests.Response, size: int) -> None:
        """Append what the server sends, from the start of the file or from the end of the part of so many bytes."""
        start, total = _start_and_total(response)
        etag = response.headers.get("ETag", "")
        version = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
        if start and (start != size or self._version not in ("", version)):  # not every server obeys If-Range
            self.part.unlink(missing_ok=True)
            raise _InterruptionError("has another file now than the one that was begun")
        if self.file.bytes and total not in (0, self.file.bytes):
            raise TransferError(f"announces {total} bytes where {self.file.bytes} are expected")
        # As it arrives, without decompressing what the server calls a content encoding.
        chunks = iter(lambda: response.raw.read1(CHUNK, decode_content=False), b"")
        total = self.file.bytes or total
        try:
            first = next(chunks, b"")
            if not start and first.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
                raise TransferError("sent a web page (an error page, or a log-in page of your network)")
            if not start:
                require_space(total, self.part.parent, self.file.name)
            self._version = version
            with self.part.open("ab" if start else "wb") as stream:
                for chunk in chain([first], chunks):
                    stream.write(chunk)
                    stream.flush()  # a killed process loses nothing of what arrived
                    if self._progress:
                        self._progress(stream.tell(), total or self.file.expected_bytes, self.file.name)
        except HTTPError as error:
            raise _InterruptionError(f"broke off ({innermost_reason(error)})") from error
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


def require_space(wanted: int, folder: Path, what: str) -> None:
    """Raise UserError where so many bytes do not fit the disk, instead of failing after hours."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(existing).free
    if free < wanted:
        raise UserError(
            f"{what} needs {wanted / 1e9:.2f} GB more in {folder}, where only {free / 1e9:.2f} GB are free. "
            "Free some space or give another folder."
        )
