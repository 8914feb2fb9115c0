"""Fetching one file from one address: continues where it stopped, tries again, and believes no server blindly."""

from __future__ import annotations

import logging
import re
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, InvalidURL
from urllib.error import HTTPError, URLError
from urllib.request import (
    BaseHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

import cascade_clip
from cascade_clip.download.file_verification import HEAD_BYTES, head_problem
from cascade_clip.download.official_files import OfficialFile
from cascade_clip.download.part_file import CHUNK, Origin, PartFile, Report

log = logging.getLogger(__name__)

_WORTH_TRYING_AGAIN = {408, 425, 429}
_LONGEST_PAUSE = 60.0
_LONGEST_REQUESTED_PAUSE = 300.0
_CONSIDERABLE = 1 << 20
"""Bytes that an attempt must add for the count of failures to start anew: a bad line may drop 19 GB a hundred times."""


class TransferError(Exception):
    """This address does not give the file; the message continues the sentence that begins with the address."""


class _AttemptError(Exception):
    """An attempt failed in a way that another one may mend."""

    def __init__(self, reason: str, requested_pause: float = 0.0) -> None:
        super().__init__(reason)
        self.requested_pause = requested_pause


@dataclass(frozen=True)
class Patience:
    """How long to insist."""

    retries: int = 5
    """Attempts in a row that may fail without getting further, beside the first."""
    timeout: float = 60.0
    """Seconds without a byte after which an attempt counts as failed."""
    backoff: float = 1.0
    """Seconds before the second attempt; doubled for each further one, at most a minute."""

    def pause(self, failures: int, requested: float) -> float:
        """Seconds to wait after so many failures in a row."""
        return max(min(self.backoff * 2.0 ** (failures - 1), _LONGEST_PAUSE), min(requested, _LONGEST_REQUESTED_PAUSE))


def transfer(file: OfficialFile, address: str, part: PartFile, patience: Patience, report: Report) -> None:
    """Fill a part until it is complete; its checksum is not compared here.

    Proxy variables of the environment are respected. Redirections are followed, to http and https only.

    Args:
        file: What is fetched.
        address: Where.
        part: What is there already; it keeps whatever is received.
        patience: When to give up.
        report: Called with (bytes done, bytes in all).

    Raises:
        TransferError: The address does not give the file, with the reason.
        UserError: The disk is full, or the folder cannot be written.
    """
    failures, furthest = 0, part.size
    while True:
        try:
            _attempt(file, address, part, patience.timeout, report)
            return
        except _AttemptError as failure:
            failures = 1 if part.size >= furthest + _CONSIDERABLE else failures + 1
            furthest = max(furthest, part.size)
            if failures > patience.retries:
                raise TransferError(str(failure)) from failure
            pause = patience.pause(failures, failure.requested_pause)
            log.info("%s: %s %s; trying again in %.0f s.", file.name, address, failure, pause)
            time.sleep(pause)


def _attempt(file: OfficialFile, address: str, part: PartFile, timeout: float, report: Report) -> None:
    part.catch_up(report)
    if part.origin and part.size and part.size == (file.bytes or part.origin.total):
        return
    request = Request(address, headers=_headers(file, address, part))
    try:
        with _opener().open(request, timeout=timeout) as response:
            _receive(file, address, part, response, report)
    except HTTPError as error:
        with error:
            _judge_refusal(error, file, part)
    except InvalidURL as error:
        raise TransferError("is no valid address") from error
    except URLError as error:
        # A text instead of an error means that urllib itself refuses; a certificate does not mend itself either.
        if isinstance(error.reason, str | ssl.SSLCertVerificationError):
            raise TransferError(f"cannot be reached ({error.reason})") from error
        raise _AttemptError(f"cannot be reached ({_text_of(error.reason)})") from error
    except (OSError, HTTPException) as error:
        raise _AttemptError(f"broke off after {part.size} bytes ({_text_of(error)})") from error


def _opener() -> OpenerDirector:
    """Speaks http and https alone, unlike urllib's default one, which a redirection may send to ftp."""
    opener = OpenerDirector()
    handlers: list[BaseHandler] = [ProxyHandler(), HTTPHandler(), HTTPSHandler(), HTTPRedirectHandler()]
    for handler in (*handlers, HTTPErrorProcessor(), HTTPDefaultErrorHandler(), UnknownHandler()):
        opener.add_handler(handler)
    return opener


def _headers(file: OfficialFile, address: str, part: PartFile) -> dict[str, str]:
    """Ask for the rest where a part can be continued.

    A part from another address is continued only where a checksum will tell whether the pieces fit.
    """
    headers = {"User-Agent": f"cascade-clip/{cascade_clip.__version__}", "Accept-Encoding": "identity"}
    origin = part.origin
    if origin is None or not part.size or not (origin.address == address or file.checksum):
        return headers
    headers["Range"] = f"bytes={part.size}-"
    strong_etag = None if origin.etag is None or origin.etag.startswith("W/") else origin.etag
    validator = strong_etag or origin.last_modified
    if validator and origin.address == address:
        headers["If-Range"] = validator
    return headers


def _receive(file: OfficialFile, address: str, part: PartFile, response: HTTPResponse, report: Report) -> None:
    """Append what the server sends, from the start of the file or from the end of the part."""
    start, origin = _described(address, response.status, response.headers)
    if start and not (part.origin and start == part.size and part.origin.has_same_file(origin)):
        part.discard()
        raise _AttemptError("has another file now than the one that was begun")
    total = file.bytes or origin.total
    head = b"" if start else _checked_head(file, origin, response)
    if file.bytes and origin.total and origin.total != file.bytes:
        raise _AttemptError(f"announces {origin.total} bytes where {file.bytes} are expected")
    if not start:
        part.begin(origin, total)
    with part.appending() as append:
        chunk = head or response.read1(CHUNK)
        while chunk:
            append(chunk)
            report(part.size, total or file.about_bytes)
            chunk = response.read1(CHUNK)
    if total and part.size > total:
        size = part.size
        part.discard()
        raise _AttemptError(f"sent {size} bytes where {total} are expected")
    if total and part.size < total:
        raise _AttemptError(f"broke off after {part.size} of {total} bytes")


def _described(address: str, status: int, headers: Message) -> tuple[int, Origin]:
    """Where the content of an answer starts in the file, and what the server says of the whole."""
    start, total = 0, headers.get("Content-Length")
    if status == 206:
        found = re.fullmatch(r"\s*bytes\s+(\d+)-\d+/(\d+|\*)\s*", headers.get("Content-Range", ""))
        if found is None:
            raise TransferError("answered with a part of the file and did not say which")
        start, total = int(found[1]), found[2]
    known_total = int(total) if total and total.isdigit() else None
    return start, Origin(address, known_total, headers.get("ETag"), headers.get("Last-Modified"))


def _checked_head(file: OfficialFile, origin: Origin, response: HTTPResponse) -> bytes:
    """The first bytes, which tell a web page from an archive before anything is written."""
    head = response.read(HEAD_BYTES)
    complete = origin.total is None or len(head) >= min(HEAD_BYTES, origin.total)
    problem = head_problem(file.name, head) if complete else None
    if problem:
        raise TransferError(f"sent {problem}")
    return head


def _judge_refusal(error: HTTPError, file: OfficialFile, part: PartFile) -> None:
    """Return where the refusal means that the part is complete; raise otherwise."""
    if error.code == 416 and part.size:
        total = error.headers.get("Content-Range", "").rpartition("/")[2]
        if total == str(part.size) and part.size == (file.bytes or part.size):
            return
        part.discard()
        raise _AttemptError("cannot continue the part that was begun") from error
    reason = f"answered {error.code} {error.reason}".rstrip()
    if error.code >= 500 or error.code in _WORTH_TRYING_AGAIN:
        raise _AttemptError(reason, _requested_pause(error.headers)) from error
    raise TransferError(reason) from error


def _requested_pause(headers: Message) -> float:
    """Seconds that `Retry-After` asks for, given as a number or a date."""
    given = headers.get("Retry-After", "").strip()
    if given.isdigit():
        return float(given)
    try:
        return max((parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


def _text_of(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
