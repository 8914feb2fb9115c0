"""Files below an address, read through fsspec and tried again when the network fails."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
from huggingface_hub.errors import OfflineModeIsEnabled
from tenacity import Retrying, before_sleep_log, retry_if_exception, stop_after_attempt, wait_exponential

from cascade_clip.data.hub_address import HubAddress
from cascade_clip.errors import UserError

log = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 7
_LONGEST_PAUSE = 60
_WORTH_TRYING_AGAIN = {408, 425, 429}


@dataclass(frozen=True)
class RemoteFiles:
    """Files below an address: `hub:ORG/NAME@REVISION`, `https://...`, or whatever else fsspec opens."""

    address: str

    def __str__(self) -> str:
        return self.address

    def find(self, name: str) -> bytes | None:
        """Read a small file; None where there is no such file. Raises like `attempt`."""

        def read() -> bytes:
            files, root = self._file_system()  # for some kinds of address this connects already
            return bytes(files.cat_file(f"{root}/{name}"))

        try:
            return self.attempt(name, read)
        except FileNotFoundError:
            return None

    def open(self, name: str, size: int) -> IO[bytes]:
        """Open a file for random access; each read is one request for exactly these bytes.

        Its path has forward slashes; knowing its size in bytes saves a request.
        """
        files, root = self._file_system()
        return files.open(f"{root}/{name}", "rb", cache_type="none", size=size)

    def _file_system(self) -> tuple[Any, str]:
        """The file system and the address as it knows it; fsspec keeps one file system for each process."""
        hub = HubAddress.parse(self.address)
        url = f"hf://datasets/{str(hub).removeprefix('hub:')}" if hub else self.address
        # Without this, a proxy that the environment names would not be used.
        options = {"client_kwargs": {"trust_env": True}} if url.startswith(("http://", "https://")) else {}
        try:
            files, root = fsspec.core.url_to_fs(url, **options)
        except (ImportError, ValueError) as error:
            raise UserError(f"{self.address} is no address that can be read: {error}.") from error
        return files, root.rstrip("/")

    def attempt(self, name: str, read: Callable[[], T]) -> T:
        """Call a function that reads a file, again after a pause each time the network fails, and return its result.

        `name` is the file's path below the address, for messages. Raises FileNotFoundError where there is no such file;
        pyarrow.ArrowException, or a plain OSError from Arrow, where it is damaged; UserError where it may not be read,
        its server cannot send parts, or the network failed again and again.
        """
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_exponential(0.5, max=_LONGEST_PAUSE),
            before_sleep=before_sleep_log(log, logging.INFO),
            reraise=True,
        )
        try:
            return retrying(read)
        except (UserError, FileNotFoundError):
            raise
        except Exception as error:
            if _is_damage(error):
                raise
            if _status(error) == 404:
                raise FileNotFoundError(name) from error
            raise UserError(self._reason(name, error)) from error

    def _reason(self, name: str, error: Exception) -> str:
        status = _status(error)
        if isinstance(error, OfflineModeIsEnabled):
            return f"{self.address} cannot be read while HF_HUB_OFFLINE is set: unset it, or give a folder."
        reason = f"HTTP {status}" if status else f"{type(error).__name__}: {error}"
        if isinstance(error, PermissionError) or status in {401, 403}:
            return (
                f"{self.address} may not be read ({reason}): check its name, or, where it is a private or gated "
                "dataset of the Hub, accept its terms there and log in with `hf auth login`."
            )
        if isinstance(error, ValueError):
            return (
                f"{self.address} cannot be streamed: its server sends whole files only, not parts. "
                "Copy the dataset to this machine and give its folder."
            )
        if _may_pass(error):
            return (
                f"{self.address}/{name} could not be read in {ATTEMPTS} attempts: {reason}. "
                "Check the network connection and repeat the command."
            )
        return f"{self.address}/{name} cannot be read: {reason}."


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    status = _status(error)
    if status is not None:
        return status in _WORTH_TRYING_AGAIN or status >= 500
    if isinstance(error, UserError | FileNotFoundError | PermissionError | ValueError | OfflineModeIsEnabled):
        return False
    return isinstance(error, Exception) and not _is_damage(error)


def _is_damage(error: BaseException) -> bool:
    """Whether Arrow found a file damaged; its I/O errors are plain OSErrors without a number."""
    return isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None)


def _status(error: BaseException) -> int | None:
    """HTTP status of an error of aiohttp or of the Hub's client."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
