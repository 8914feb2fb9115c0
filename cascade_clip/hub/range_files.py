"""Files at an address, read by byte range and tried again when the network fails."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cascade_clip.errors import UserError
from cascade_clip.hub.hub_address import HubAddress

log = logging.getLogger(__name__)

TIMEOUT = 60.0
_LONGEST_PAUSE = 60.0
_WORTH_TRYING_AGAIN = {408, 425, 429}


class _AttemptError(Exception):
    """An attempt failed in a way that another one may mend."""

    def __init__(self, reason: str, requested_pause: float = 0.0) -> None:
        super().__init__(reason)
        self.requested_pause = requested_pause


@dataclass(frozen=True)
class RangeFiles:
    """Files below an address: `hub:ORG/NAME@REVISION`, `https://...`, or whatever else fsspec opens.

    Every range is one request of its own, so that nothing has to be reopened after a fork or in another process.
    """

    address: str
    retries: int = 6
    """Attempts beside the first."""
    backoff: float = 0.5
    """Seconds before the second attempt; doubled for each further one."""

    def __str__(self) -> str:
        return self.address

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read a file, or a part of it.

        Args:
            name: Path below the address, with forward slashes.
            start: First byte.
            stop: Byte before which reading ends; unset: the file's end.

        Returns:
            Exactly the bytes that were asked for.

        Raises:
            UserError: The file is not there, may not be read, or the network failed again and again.
        """
        content = self.find(name, start, stop)
        if content is None:
            raise UserError(f"{self.address}/{name} is not there. Check the address, or upload the dataset again.")
        return content

    def find(self, name: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Read like `read`; None where there is no such file."""
        failures = 0
        while True:
            try:
                return self._attempt(name, start, stop)
            except FileNotFoundError:
                return None
            except _AttemptError as failure:
                failures += 1
                if failures > self.retries:
                    raise UserError(
                        f"{self.address}/{name} could not be read in {failures} attempts: {failure}. "
                        "Check the network connection and repeat the command."
                    ) from failure
                pause = min(max(self.backoff * 2 ** (failures - 1), failure.requested_pause), _LONGEST_PAUSE)
                log.info("%s/%s: %s; trying again in %.1f s.", self.address, name, failure, pause)
                time.sleep(pause)

    def _attempt(self, name: str, start: int, stop: int | None) -> bytes:
        hub = HubAddress.parse(self.address)
        if hub is not None:
            from huggingface_hub import get_token, hf_hub_url

            token = get_token()
            url = hf_hub_url(hub.repo, name, repo_type="dataset", revision=hub.revision)
            content = self._over_http(url, start, stop, {"Authorization": f"Bearer {token}"} if token else {})
        elif self.address.startswith(("http://", "https://")):
            content = self._over_http(f"{self.address}/{quote(name)}", start, stop, {})
        else:
            content = self._over_fsspec(name, start, stop)
        if stop is not None and len(content) != stop - start:
            raise _AttemptError(f"{len(content)} bytes came instead of {stop - start}")
        return content

    def _over_http(self, url: str, start: int, stop: int | None, headers: dict[str, str]) -> bytes:
        from huggingface_hub import get_session
        from huggingface_hub.errors import OfflineModeIsEnabled

        part = start > 0 or stop is not None
        headers = {**headers, "Accept-Encoding": "identity"}  # a part of something compressed could not be read
        if part:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        try:
            # The Hub's session keeps connections open, knows proxies, and sends the token to no other host.
            response = get_session().get(url, headers=headers, timeout=TIMEOUT)
        except OfflineModeIsEnabled as error:
            raise UserError(
                f"{self.address} cannot be read while HF_HUB_OFFLINE is set: unset it, or give a folder."
            ) from error
        except Exception as error:  # which HTTP library, and so which exceptions, depends on huggingface_hub's version
            raise _AttemptError(f"{type(error).__name__}: {error}") from error
        self._judge(response, part)
        content: bytes = response.content
        return content

    def _judge(self, response: Any, part: bool) -> None:
        """Raise unless the answer is what was asked for."""
        status = response.status_code
        if status == (206 if part else 200):
            return
        if status == 200:
            raise UserError(
                f"{self.address} cannot be streamed: its server sends whole files only, not parts. "
                "Copy the dataset to this machine and give its folder."
            )
        if status == 404:
            raise FileNotFoundError
        if status in {401, 403}:
            raise UserError(
                f"{self.address} may not be read (HTTP {status}): check its name, or, where it is a private or gated "
                "dataset of the Hub, accept its terms there and log in with `hf auth login`."
            )
        if status in _WORTH_TRYING_AGAIN or status >= 500:
            wanted = response.headers.get("Retry-After", "")
            raise _AttemptError(f"HTTP {status}", float(wanted) if wanted.isdigit() else 0.0)
        raise UserError(f"{self.address} cannot be read: its server answers HTTP {status}.")

    def _over_fsspec(self, name: str, start: int, stop: int | None) -> bytes:
        import fsspec  # type: ignore[import-untyped]

        try:
            files, root = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise UserError(f"{self.address} is no address that can be read: {error}.") from error
        try:
            content: bytes = files.cat_file(f"{root.rstrip('/')}/{name}", start=start or None, end=stop)
        except FileNotFoundError:
            raise
        except PermissionError as error:
            raise UserError(f"{self.address} may not be read: {error}.") from error
        except Exception as error:  # each file system has exceptions of its own
            raise _AttemptError(f"{type(error).__name__}: {error}") from error
        return content
