"""Images from a server on this machine that does what servers do."""

import io
import time
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
from faulty_server import Answer, send, serving
from PIL import Image

from cascade_clip.errors import UserError
from cascade_clip.inference import web_files
from cascade_clip.inference.inputs import rgb_pixels
from cascade_clip.inference.sources import fetched, source_named

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)


def png() -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(PIXELS).save(encoded, "PNG")
    return encoded.getvalue()


def redirect(to: str) -> Answer:
    return send(b"", status=302, headers={"Location": to})


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def test_an_image_is_read_from_its_address(tmp_path):
    with serving(redirect("/elsewhere"), send(png()), send(png())) as server:
        source = fetched(source_named(server.url("photo?size=2")), tmp_path)
        assert source.path.suffix == ".png"
        assert np.array_equal(rgb_pixels(source.path), PIXELS)
        assert np.array_equal(rgb_pixels(server.url("x.png")), PIXELS)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([send(b"", status=404)], r"x\.png cannot be read: the server answers 404 Not Found"),
        ([send(b"<html>", headers={"Content-Type": "text/html"})], "is a page, not an image"),
        ([send(b"no image")], r"x\.png cannot be read: it is broken, cut off or no image"),
        ([send(b"")], r"it is empty \(0 bytes\)"),
        ([send(png(), length=10**9)], "has more than 100 MB: save it as a file"),
        ([send(png()[:50], length=len(png()))], r"x\.png cannot be read: .*Check address and network"),
        ([redirect("/again")], "it is redirected more than 5 times"),
        ([redirect("file:///etc/passwd")], "it is redirected to another scheme than http and https"),
        ([drip], "it takes more than 1 seconds"),
    ],
)
def test_what_servers_do_is_one_sentence(answers: list[Answer], message: str, tmp_path, monkeypatch):
    monkeypatch.setattr(web_files, "LONGEST_TRANSFER", 0.6)
    with serving(*answers) as server, pytest.raises(UserError, match=message):
        fetched(source_named(server.url("x.png")), tmp_path)


def test_more_than_the_limit_without_a_length(monkeypatch):
    monkeypatch.setattr(web_files, "LARGEST_FILE", 40)
    with serving(send(png(), length=-1)) as server, pytest.raises(UserError, match="has more than 0 MB"):
        rgb_pixels(server.url("x.png"))


def test_a_server_that_is_not_there_or_says_nothing(monkeypatch):
    with pytest.raises(UserError, match=r"Connection refused\. Check address and network"):
        rgb_pixels("http://127.0.0.1:9/x.png")
    monkeypatch.setattr(web_files, "LONGEST_WAIT", 0.2)
    with serving(lambda _: time.sleep(0.5)) as server, pytest.raises(UserError, match="no answer within 0 seconds"):
        rgb_pixels(server.url("x.png"))
