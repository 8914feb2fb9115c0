"""The page and its HTTP interface, driven by a real browser and by Gradio's own client."""

import json
import shutil
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cascade_clip import CascadeCLIP
from cascade_clip.demo import LARGEST_SIDE, Demo, build_page, launch
from cascade_clip.drawing.palette import sequential_colour
from cascade_clip.errors import UserError
from cascade_clip.shapes.scenes import draw_scene

WORDS = "grass, sand, red circle"


@pytest.fixture(scope="module")
def demo() -> Demo:
    return Demo({name: CascadeCLIP.from_pretrained(name) for name in ("bundled", "dense:bundled")})


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    Image.fromarray(draw_scene(3).image).save(path)
    return str(path)


def test_words_are_segmented_as_by_the_library(demo: Demo, scene: str):
    image, found = demo.segment("bundled", scene, WORDS)
    (expected,) = demo.models["bundled"].segment(scene, ["grass", "sand", "red circle"])
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert image.shape == (*expected.labels.shape, 3)
    _, own = demo.segment("bundled", scene, " ")
    assert own.classes == demo.models["bundled"].split.class_names
    assert demo.own_words("dense:bundled") == ""


def test_a_photograph_for_the_bundled_model_is_warned_of(demo: Demo, scene: str, tmp_path):
    photograph = tmp_path / "photograph.png"
    Image.new("RGB", (96, 64), (90, 110, 130)).save(photograph)
    assert "drawn scenes only" in demo.record(str(photograph), WORDS, "bundled")["warning"]
    assert demo.record(scene, WORDS, "bundled")["warning"] is None


def test_stages_are_switched_off_as_figure_6_does(demo: Demo, scene: str):
    predictor = demo.models["bundled"].predictor()
    predictor.set_image(np.asarray(Image.open(scene)))
    vocabulary = demo.models["bundled"].vocabulary(["grass", "sand", "red circle"])
    assert demo.stages("bundled") == ["stage {6-8}", "stage {9-11}", "stage {12}"]
    assert demo.stages("dense:bundled") == []
    for number, stage in enumerate(demo.stages("bundled")):
        _, found = demo.segment("bundled", scene, WORDS, [stage])
        alone = predictor.stage_scores(vocabulary.text)[number]
        np.testing.assert_array_equal(found.labels, alone.argmax(dim=0).numpy())
    _, every = demo.segment("bundled", scene, WORDS, demo.stages("bundled"))
    np.testing.assert_array_equal(every.labels, demo.segment("bundled", scene, WORDS)[1].labels)


def test_a_point_has_a_map_after_each_block(demo: Demo, scene: str):
    maps = demo.similar_patches("bundled", scene, (5, 9))
    assert list(maps) == list(range(1, demo.blocks("bundled") + 1))
    assert all(picture.size == (512, 512) for picture in maps.values())
    # The patch of 8 x 8 pixels that holds the point is the one most like itself; the map is 4 times as large.
    middle = maps[1].getpixel((4 * 4, 12 * 4))
    assert np.abs(np.subtract(middle, sequential_colour(1.0))).max() < 40


def test_large_photographs_are_shrunk_and_points_of_them_still_meant(demo: Demo, tmp_path):
    path = tmp_path / "large.png"
    Image.new("RGB", (2 * LARGEST_SIDE, 200), (9, 90, 200)).save(path)
    image, found = demo.segment("dense:bundled", str(path), WORDS)
    assert image.shape == (100, LARGEST_SIDE, 3)
    assert found.labels.shape == (100, LARGEST_SIDE)


@pytest.mark.parametrize(
    ("model", "words", "stages", "message"),
    [
        ("nosuch", WORDS, None, 'no model "nosuch" here; there are bundled, dense:bundled'),
        ("dense:bundled", " , ", None, "Type the words to look for"),
        ("bundled", "grass,Grass", None, "given twice"),
        ("bundled", WORDS, ["stage {7}"], r'"stage \{7\}" is no stage of "bundled"'),
    ],
)
def test_mistakes_are_sentences(demo: Demo, scene: str, model: str, words: str, stages: list[str] | None, message: str):
    with pytest.raises(UserError, match=message):
        demo.segment(model, scene, words, stages)


def test_colours_are_the_same_for_every_model(demo: Demo):
    split = demo.models["bundled"].split
    colours = demo.colours(["grass", "unheard of"])
    assert colours["grass"] == "#{:02x}{:02x}{:02x}".format(*next(c.colour for c in split.classes if c.name == "grass"))
    assert len(set(colours.values())) == 2


@pytest.fixture(scope="module")
def url(demo: Demo) -> Iterator[str]:
    gradio = pytest.importorskip("gradio", reason="the page is made with Gradio (extra `demo`)")
    page = build_page(demo)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    opened = threading.Event()
    threading.Thread(target=launch, args=(page, "127.0.0.1", port, lambda _: opened.set()), daemon=True).start()
    assert opened.wait(60)
    with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
        launch(build_page(demo), "127.0.0.1", port, print)
    yield f"http://127.0.0.1:{port}"
    gradio.close_all()


def post(address: str, content: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        address, data=json.dumps(content).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.mark.slow
def test_http_interface_answers_and_reads_no_file_of_the_machine(url: str, demo: Demo, scene: str, tmp_path):
    client = pytest.importorskip("gradio_client", reason="asks the page as users do")
    asked = client.Client(url, verbose=False)
    record = asked.predict(client.handle_file(scene), WORDS, "bundled", api_name="/segment")
    np.testing.assert_array_equal(record["labels"], demo.segment("bundled", scene, WORDS)[1].labels)
    assert record["names"] == ["grass", "sand", "red circle"]
    with pytest.raises(Exception, match='no model "nosuch" here'):
        asked.predict(client.handle_file(scene), WORDS, "nosuch", api_name="/segment")
    secret = tmp_path / "secret.png"
    shutil.copyfile(scene, secret)
    picture = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(urllib.error.HTTPError):
        post(f"{url}/gradio_api/run/segment", {"data": [picture, WORDS, "bundled"]})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{url}/gradio_api/file={secret}", timeout=60)


@pytest.mark.slow
def test_page_in_a_browser(url: str, chromium: Any, scene: str):
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(condition: Any) -> Any:
        return WebDriverWait(chromium, 60).until(condition)

    def masks(window: Any) -> list[Any]:
        return window.find_elements("css selector", "img.mask")

    chromium.get(url)
    wait(lambda window: window.find_elements("css selector", "input[type=file]"))[0].send_keys(scene)
    photograph = wait(lambda window: window.find_elements("css selector", ".image-frame img"))[0]
    words = chromium.find_element("css selector", "textarea")
    words.clear()
    words.send_keys(WORDS)
    next(b for b in chromium.find_elements("tag name", "button") if b.text == "Segment").click()
    # Two models, each with a picture and a table of the three words.
    wait(lambda window: len(masks(window)) >= 2)
    shown = chromium.find_element("tag name", "body").text
    assert "mean score" in shown
    assert "red circle" in shown
    before = len(chromium.find_elements("tag name", "img"))
    photograph.click()
    wait(lambda window: len(window.find_elements("tag name", "img")) > before)
    # Without any stage there is nothing to sum: a sentence, no traceback.
    for box in chromium.find_elements("css selector", "input[type=checkbox]"):
        chromium.execute_script("arguments[0].click()", box)
    wait(lambda window: "Choose at least one stage." in window.find_element("tag name", "body").text)
