from pathlib import Path

import numpy as np
import pytest
from report_pages import layer_similarities
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from cascade_clip.report.cka_page import write_cka_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    record = {"model": "bundled", "seed": 0, "matrices": [{"rows": []}], "stages": [[1, 2], [3]]}
    return write_cka_report(tmp_path_factory.mktemp("cka"), layer_similarities(), record)


def test_values_are_said_in_all_matrices_side_by_side(report: Path, opened):
    page = opened(report)
    readouts = page.all("[data-readout]")
    cell = page.one(".matrix tbody tr:nth-child(2) td:nth-of-type(4)")
    ActionChains(page.window).move_to_element(cell).perform()
    assert readouts[0].text.split("\n") == ["block 2 × block 4", ".80", "CKA 0.8000"]
    assert readouts[1].text.split("\n") == ["block 2 × block 4", ".40", "CKA 0.4000"]
    assert "Point at a cell" in readouts[2].text
    page.run("arguments[0].focus()", page.one(".matrix tbody td"))
    page.window.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert readouts[1].text.startswith("block 1 × block 2\n.70")


def test_the_deepest_block_is_framed_and_neighbours_are_marked(report: Path, opened):
    page = opened(report)
    assert page.texts(".framed th bdi") == ["block 4"] * 3
    marked = page.run(
        "[...document.querySelector('.matrix').querySelectorAll('td i')].map((dot) =>"
        " [dot.parentElement.parentElement.sectionRowIndex, dot.parentElement.cellIndex - 1])"
    )
    assert marked == [[1, 0], [2, 1], [3, 2]]
    facts = page.one(".matrix-card").text
    assert "neighbouring blocks (dots): mean 0.90" in facts
    assert "block 4 (framed) with the other blocks: mean 0.80" in facts


def test_tokens_have_a_section_each_and_the_record_its_settings(report: Path, opened):
    page = opened(report)
    assert page.texts("main h2") == ["Patch tokens", "Class token", "How it was measured"]
    assert page.texts(".settings dt") == ["model", "seed", "stages"]
    assert "1,200 images, 9,600 tokens, estimator exact" in page.one(".matrix-card").text


def test_values_outside_the_scale_and_missing_ones_are_shown(tmp_path: Path, opened):
    similarity = layer_similarities()[0]
    similarity.matrix[0, :3] = (-0.02, 1.03, np.nan)
    page = opened(write_cka_report(tmp_path, [similarity], {}))
    assert page.texts(".matrix tbody tr:first-child td span")[:3] == ["-.02", "1.03", "–"]
    colours = page.run("[...document.querySelectorAll('.matrix tbody td')].map((each) => each.style.backgroundColor)")
    assert colours[0] == "rgb(0, 34, 78)"
    assert colours[1] == "rgb(254, 232, 56)"
    assert colours[2] == ""
    assert page.console() == []
