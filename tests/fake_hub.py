"""A Hub on this machine: repositories are folders, and every request can be made to fail."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import HfFileSystem

COMMIT = "5" * 40
"""The commit that main stands for, unless a test names another."""


@dataclass
class FakeHub:
    """Repositories of datasets and models by name, and what clients did to them.

    Attributes:
        repositories: Folder of each repository.
        private: Names of repositories that answer 401 without a token.
        gated: Names of repositories whose files answer that terms are to be accepted first.
        failures: Answers that requests for data get instead of the file, one each: a status, or "cut" for a body that
            breaks off in the middle.
        requests: Method, path and Range header of everything that was asked.
        commit: The only commit of every repository; main and it are the same.
    """

    repositories: dict[str, Path]
    private: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    failures: list[int | str] = field(default_factory=list)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    endpoint: str = ""
    commit: str = COMMIT

    def take_the_hubs_place(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        """Send this process here instead of to the Hub, with empty caches below `home`."""
        HfFileSystem.clear_instance_cache()
        for name, value in {
            "constants.ENDPOINT": self.endpoint,
            "constants.HUGGINGFACE_CO_URL_TEMPLATE": self.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "constants.HF_HUB_CACHE": str(home / "hf"),
            "constants.HF_HUB_OFFLINE": False,
            "constants.HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(f"huggingface_hub.{name}", value)
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", self.endpoint)
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", home / "hf-datasets")
        monkeypatch.setenv("CASCADE_CLIP_CACHE", str(home / "cache"))

    def data_requests(self) -> list[tuple[str, str | None]]:
        """Path and range of each request for a Parquet file."""
        return [(path, part) for verb, path, part in self.requests if verb == "GET" and path.endswith(".parquet")]


@contextmanager
def fake_hub(**repositories: Path) -> Iterator[FakeHub]:
    """Serve folders as datasets and models; `org__name=folder` is the repository org/name."""
    hub = FakeHub({name.replace("__", "/"): folder for name, folder in repositories.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True  # answers go out at once, header and body
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else b""
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path, self.headers.get("Range")))
            if found := re.fullmatch(
                r"/api/(?:datasets|models)/([^/]+/[^/]+)(?:/(\w[\w-]*)(?:/([^/]+)(?:/(.*))?)?)?", path
            ):
                self._api(*found.groups(), body=body)
            elif found := re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self._file(*found.groups())
            else:
                self._error(404, "EntryNotFound")

        def _folder(self, repository: str, revision: str | None) -> Path | None:
            folder = hub.repositories.get(repository)
            if folder is None:
                self._error(404, "RepoNotFound")
            elif repository in hub.private and "Authorization" not in self.headers:
                self._error(401, "RepoNotFound")
            elif revision not in {None, "main", hub.commit}:
                self._error(404, "RevisionNotFound")
            else:
                return folder
            return None

        def _api(self, repository: str, what: str | None, revision: str | None, under: str | None, body: bytes) -> None:
            folder = self._folder(repository, revision)
            if folder is None:
                return
            if what in {None, "revision"}:
                siblings = [{"rfilename": entry["path"]} for entry in _entries(folder) if entry["type"] == "file"]
                facts = {"private": False, "gated": False, "tags": []}
                self._json({"id": repository, "sha": hub.commit, "siblings": siblings, **facts})
            elif what == "tree":
                inside = f"{under}/" if under else ""
                entries = [entry for entry in _entries(folder) if entry["path"].startswith(inside)]
                if "recursive=true" not in self.path.lower():
                    entries = [entry for entry in entries if "/" not in entry["path"].removeprefix(inside)]
                self._json(entries)
            elif what == "paths-info":
                text = body.decode()
                asked = json.loads(text)["paths"] if text[:1] == "{" else re.findall("paths=([^&]*)", unquote(text))
                self._json([entry for entry in _entries(folder) if entry["path"] in asked])
            else:
                self._error(404, "EntryNotFound")

        def _file(self, repository: str, revision: str, name: str) -> None:
            folder = self._folder(repository, revision)
            if folder is None:
                return
            if repository in hub.gated:
                self._error(403, "GatedRepo")
                return
            if not (folder / name).is_file():
                self._error(404, "EntryNotFound")
                return
            failure = hub.failures.pop(0) if hub.failures and name.endswith(".parquet") else None
            if isinstance(failure, int):
                self._error(failure, "")
                return
            content = (folder / name).read_bytes()
            status, headers = 200, {"ETag": f'"{_digest(content)}"', "X-Repo-Commit": hub.commit}
            if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
                first, last = int(asked[1]), int(asked[2] or len(content) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                status, content = 206, content[first : last + 1]
            self._send(status, content, headers, cut=failure == "cut")

        def _json(self, content: object) -> None:
            self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _error(self, status: int, code: str) -> None:
            self._send(status, b"{}", {"X-Error-Code": code} if code else {})

        def _send(self, status: int, content: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = self.close_connection or cut

    return Handler


def _entries(folder: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            entries.append({"type": "directory", "oid": _digest(name.encode()), "size": 0, "path": name})
        else:
            content = path.read_bytes()
            entries.append({"type": "file", "oid": _digest(content), "size": len(content), "path": name})
    return entries


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
