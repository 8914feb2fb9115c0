from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_pages import HOSTILE, written_predictions
from selenium.webdriver.support.ui import Select

from cascade_clip.errors import UserError
from cascade_clip.report.gallery import write_gallery


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("predictions") / "out"
    return write_gallery(folder, written_predictions(folder, images=3))


def test_pictures_and_files_lie_beside_the_page(gallery: Path, opened):
    page = opened(gallery)
    assert page.run("[...document.images].every((image) => { image.loading = 'eager'; return true; })")
    page.window.execute_async_script("Promise.all([...document.images].map((i) => i.decode())).then(arguments[0])")
    assert set(page.run("[...document.images].map((image) => image.naturalWidth)")) == {60, 480}
    links = page.run(
        "[...document.querySelectorAll('.links a')].map((link) => decodeURIComponent(link.getAttribute('href')))"
    )
    assert "photo # 0.overlay.png" in links
    assert all((gallery.parent / link).is_file() for link in links)
    assert page.texts(".failures li b") == ["broken.jpg"]
    assert "1 left out" in page.one(".facts").text
    assert page.console() == []


def test_the_prediction_has_the_colours_of_its_classes(gallery: Path):
    with Image.open(gallery.parent / "index_files" / "00001-prediction.jpg") as picture:
        pixels = np.asarray(picture).astype(int)
    assert pixels.shape == (320, 480, 3)  # enlarged, so that the line between the classes stays thin
    upper, lower = pixels[:150].mean((0, 1)), pixels[170:].mean((0, 1))
    assert upper[2] > upper[0] + 60  # road is blue
    assert lower[0] > lower[2] + 60  # the second class is orange


def test_cards_are_found_by_class_the_largest_first_and_by_name(gallery: Path, opened):
    page = opened(gallery)
    count = page.one("[role=status]")
    shown = ".picture-card:not([hidden]) h3"
    choice = Select(page.one("select"))
    assert [option.text for option in choice.options] == ["any", "road (3)", "tree (2)", f"{HOSTILE[0]} (1)"]
    choice.select_by_value(HOSTILE[0])
    assert page.texts(shown) == ["photo # 0.png"]
    assert count.text == "1 of 3 images"
    choice.select_by_value("road")
    assert page.texts(shown) == ["photo # 1.png", "photo # 2.png", "photo # 0.png"]
    choice.select_by_value("")
    assert page.texts(shown) == ["photo # 0.png", "photo # 1.png", "photo # 2.png"]
    page.one("input[type=search]").send_keys("# 2")
    assert page.texts(shown) == ["photo # 2.png"]


def test_a_second_gallery_replaces_the_first_and_touches_nothing_else(tmp_path):
    folder = tmp_path / "out"
    write_gallery(folder, written_predictions(folder, images=3))
    (folder / "index_files" / "mine.jpg").write_text("")
    write_gallery(folder, written_predictions(folder, images=1))
    names = {path.name for path in (folder / "index_files").iterdir()}
    assert names == {"00001-image.jpg", "00001-prediction.jpg", "mine.jpg"}
    assert not list(folder.glob(".*"))


def test_an_image_that_went_leaves_nothing_half_written(tmp_path):
    folder = tmp_path / "out"
    predictions = written_predictions(folder)
    Path(predictions[1]["image"]).unlink()
    with pytest.raises(UserError, match=r"photo # 1\.png"):
        write_gallery(folder, predictions)
    assert not (folder / "index.html").exists()
    assert not (folder / "index_files").exists()
    assert not list(folder.glob(".*"))
