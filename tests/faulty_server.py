"""A web server on this machine that misbehaves as a test wants it to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class FaultyServer:
    """Gives the answers in order, one a request, and the last one for all further requests."""

    answers: list[Answer]
    address: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers of each request."""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    @property
    def ranges(self) -> list[str | None]:
        """What each request asked for."""
        return [headers.get("Range") for _, headers in self.requests]


@contextmanager
def serving(*answers: Answer) -> Iterator[FaultyServer]:
    site = FaultyServer(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = site.answers[min(len(site.requests), len(site.answers) - 1)]
            site.requests.append((self.path, dict(self.headers)))
            answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(
    content: bytes, *, status: int = 200, headers: dict[str, str] | None = None, length: int | None = None
) -> Answer:
    """Answer with this content whatever is asked for; `length` is what the header says, -1: nothing."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        announced = len(content) if length is None else length
        if announced >= 0:
            handler.send_header("Content-Length", str(announced))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def send_ranges(
    content: bytes, *, etag: str | None = '"1"', most: int | None = None, obey_if_range: bool = True
) -> Answer:
    """Answer as a good server does; `most`: drop the connection after so many bytes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        headers = {"ETag": etag} if etag else {}
        asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        if asked is None or (obey_if_range and condition is not None and condition != etag):
            send(content[:most], headers=headers, length=len(content))(handler)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            send(b"", status=416, headers={"Content-Range": f"bytes */{len(content)}"})(handler)
            return
        rest = content[start:]
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        send(rest[:most], status=206, headers=headers, length=len(rest))(handler)

    return answer
