import io
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_pages import HOSTILE, evaluation_page, layer_similarities, written_predictions
from selenium.webdriver.support.ui import WebDriverWait

from cascade_clip.errors import UserError
from cascade_clip.report.evaluation_page import write_evaluation_report
from cascade_clip.report.gallery import write_gallery
from cascade_clip.report.heat_map import write_cka_report
from cascade_clip.report.page import check_page, data_uri, flattened, page_jpeg, write_page

pytestmark = pytest.mark.slow  # it trains, exports, or starts processes or a browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    gallery = folder / "gallery"
    return {
        "evaluation": write_evaluation_report(folder / "evaluation", evaluation_page()),
        "cka": write_cka_report(folder / "cka", layer_similarities(), {"model": HOSTILE[0], "matrices": [{}]}),
        "gallery": write_gallery(gallery, written_predictions(gallery)),
    }


KINDS = ("evaluation", "cka", "gallery")


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_are_shown_and_do_not_run(pages: dict[str, Path], opened, kind: str):
    page = opened(pages[kind])
    assert page.run("document.documentElement.dataset.ran") is None
    # A blocked handler or request would have left a line too.
    assert page.console() == []
    assert page.run("document.querySelectorAll('img[src=x]').length") == 0
    assert page.run("document.scripts.length") == 1
    assert HOSTILE[0] in page.run("document.body.textContent")
    if kind == "evaluation":
        assert page.texts("#class-table tbody th bdi")[3:] == list(HOSTILE)
        said = "\n".join(page.texts("#confusion title"))
        assert all(name in said for name in HOSTILE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_that_slips_in_is_forbidden(pages: dict[str, Path], opened, tmp_path, kind: str):
    injected = tmp_path / "index.html"
    html = pages[kind].read_text(encoding="utf-8")
    script = "<script>document.documentElement.dataset.ran = 1</script><img src='https://example.org/a.png'></body>"
    injected.write_text(html.replace("</body>", script), encoding="utf-8")
    page = opened(injected)
    assert page.run("document.documentElement.dataset.ran") is None
    assert sum("Content Security Policy" in line for line in page.console()) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_fetched_from_elsewhere(pages: dict[str, Path], kind: str):
    html = pages[kind].read_text(encoding="utf-8")
    sources = re.findall(r'<(?:img|link|script|a)\b[^>]*?\b(?:src|href)="([^"]*)"', html)
    assert sources
    assert not [source for source in sources if source.startswith(("http", "//", "/", "file:"))]
    if kind != "gallery":
        assert all(source.startswith(("data:", "#")) for source in sources)


@pytest.mark.parametrize("kind", KINDS)
def test_light_and_dark_follow_the_system_and_the_button(pages: dict[str, Path], opened, kind: str):
    page = opened(pages[kind])
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.run(colour) == "rgb(250, 250, 248)"
    page.look(scheme="dark")
    assert page.run(colour) == "rgb(21, 23, 27)"
    texts = "[...document.querySelectorAll('svg text')].map((each) => getComputedStyle(each).fill)"
    # Names and axes are light; what stands in a coloured cell keeps its ink.
    assert set(page.run(texts)) <= {"rgb(233, 233, 229)", "rgb(163, 167, 176)", "rgb(0, 0, 0)", "rgb(255, 255, 255)"}
    button = page.one("[data-theme-toggle]")
    # The page hears of the new scheme with its next frame.
    WebDriverWait(page.window, 20).until(lambda _: button.get_attribute("aria-label") == "Switch to light")
    button.click()
    assert page.run(colour) == "rgb(250, 250, 248)"
    assert button.get_attribute("aria-label") == "Switch to dark"


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_fits_the_window_and_a_screen_reader_finds_its_way(pages: dict[str, Path], opened, kind: str):
    page = opened(pages[kind])
    for width in (400, 1280):
        page.look(width=width)
        assert page.run("document.documentElement.scrollWidth") <= width
    assert [len(page.all(landmark)) for landmark in ("header", "main", "footer", "h1")] == [1, 1, 1, 1]
    assert page.run("[...document.images].every((image) => image.alt)")
    assert page.run("[...document.querySelectorAll('table')].every((table) => table.caption.textContent.trim())")
    unnamed = "(each) => !each.ariaLabel && !each.textContent.trim() && !each.closest('label')"
    assert page.run(f"[...document.querySelectorAll('button, input, select')].filter({unnamed}).length") == 0
    levels = page.run("[...document.querySelectorAll('h1, h2, h3, h4')].map((each) => Number(each.tagName[1]))")
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("write", [write_evaluation_report, write_cka_report])
def test_a_folder_that_cannot_be_written_is_told(tmp_path, write):
    (tmp_path / "taken").write_text("")
    content = (evaluation_page(),) if write is write_evaluation_report else (layer_similarities(), {})
    with pytest.raises(UserError, match=r'The report cannot be written to ".*taken": .+\. Choose another folder\.'):
        write(tmp_path / "taken", *content)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_name_that_is_no_unicode_does_not_cost_the_page(tmp_path):
    assert write_page(tmp_path / "new" / "index.html", "a\udcffb").read_text() == "a?b"
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_pictures_are_brought_to_the_size_of_a_page_and_never_enlarged():
    for size, expected in (((1800, 900), (900, 450)), ((30, 20), (30, 20))):
        picture = Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8))
        assert data_uri(picture).startswith("data:image/jpeg;base64,")
        with Image.open(io.BytesIO(page_jpeg(picture))) as shown:
            assert shown.size == expected
        assert picture.size == size


def test_a_nested_record_becomes_lines():
    record = {"a": 1, "inference": {"crop": 512, "stride": None}, "stages": [6, 7], "none": [], "matrices": [{"b": 1}]}
    lines = {"a": "1", "inference.crop": "512", "inference.stride": "–", "stages": "6, 7", "none": "–"}
    assert flattened(record) == lines


def test_a_folder_named_as_a_page_is_refused(tmp_path):
    with pytest.raises(UserError, match=r'index\.html in a folder of its own: give ".*report"'):
        check_page(tmp_path / "report.html" / "index.html")
