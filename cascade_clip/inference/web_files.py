"""Images on the web and on standard input: bytes of limited size, in limited time."""

import re
import sys
import time
from urllib.parse import urlsplit, urlunsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from cascade_clip.errors import UserError, innermost_reason

LARGEST_FILE = 100 * 1024**2
"""Bytes of an image that are read from the web or from standard input."""
LONGEST_WAIT, LONGEST_TRANSFER = 10.0, 60.0
"""Seconds that a server may take to answer, and to send all of a file."""
MOST_REDIRECTS = 5
_CHUNK = 1 << 16
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/(/|$)")


def is_address(text: str) -> bool:
    """Whether a text is an address of any kind, not a path."""
    return bool(_SCHEME.match(text)) and "://" in text


def check_address(address: str) -> str:
    """Check that an address is http or https with a server, else raise UserError; without user name and password."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f'"{address}" is no address that can be read: {error}.') from error
    if parts.scheme not in {"http", "https"}:
        raise UserError(f'"{address}" cannot be read: give an http:// or https:// address, or the path of a file.')
    if not host:
        raise UserError(f'"{address}" names no server: https://SERVER/PATH is expected.')
    shown = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=shown if port is None else f"{shown}:{port}"))


def read_address(address: str) -> bytes:
    """Read a file from an http:// or https:// address.

    Raises UserError for another address, a server that cannot be reached, is too slow or refuses, a page in place of an
    image, too many redirects or one to another scheme, or more than `LARGEST_FILE` bytes.
    """
    name = check_address(address)
    until = time.monotonic() + LONGEST_TRANSFER
    with requests.Session() as session:
        session.max_redirects = MOST_REDIRECTS
        try:
            with session.get(address, stream=True, timeout=LONGEST_WAIT) as answer:
                if not answer.ok:
                    raise UserError(f"{name} cannot be read: the server answers {answer.status_code} {answer.reason}.")
                if answer.headers.get("Content-Type", "").startswith("text/html"):
                    raise UserError(f"{name} is a page, not an image: give the address of the image itself.")
                return _content(answer, name, until)
        except requests.TooManyRedirects as error:
            raise UserError(f"{name} cannot be read: it is redirected more than {MOST_REDIRECTS} times.") from error
        except requests.exceptions.InvalidSchema as error:
            raise UserError(
                f"{name} cannot be read: it is redirected to another scheme than http and https."
            ) from error
        except (requests.Timeout, ReadTimeoutError) as error:
            raise UserError(f"{name} cannot be read: no answer within {LONGEST_WAIT:.0f} seconds.") from error
        except (requests.RequestException, HTTPError) as error:
            raise UserError(f"{name} cannot be read: {innermost_reason(error)}. Check address and network.") from error


def read_stdin() -> bytes:
    """Read an image from standard input; UserError for a terminal, one that is closed, or more than `LARGEST_FILE`."""
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError(
            '"-" is an image on standard input, but nothing is piped in: cascade-clip predict - < photo.jpg'
        )
    content = sys.stdin.buffer.read(LARGEST_FILE + 1)
    _check_size(len(content), "The image on standard input")
    return content


def _content(answer: requests.Response, name: str, until: float) -> bytes:
    announced = answer.headers.get("Content-Length", "")
    _check_size(int(announced) if announced.isdigit() else 0, name)
    content = bytearray()
    # Whatever has arrived: `iter_content` would wait for a whole chunk, however slowly it comes.
    while chunk := answer.raw.read1(_CHUNK, decode_content=True):
        content += chunk
        _check_size(len(content), name)
        if time.monotonic() > until:
            raise UserError(f"{name} cannot be read: it takes more than {LONGEST_TRANSFER:.0f} seconds.")
    return bytes(content)


def _check_size(size: int, name: str) -> None:
    if size > LARGEST_FILE:
        raise UserError(f"{name} has more than {LARGEST_FILE // 1024**2} MB: save it as a file, and give its path.")
