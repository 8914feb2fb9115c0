from pathlib import Path

import pytest
from report_pages import layer_similarities
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from cascade_clip.report.heat_map import write_cka_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    record = {"model": "bundled", "seed": 0, "matrices": [{"rows": []}], "stages": [[1, 2], [3]]}
    return write_cka_report(tmp_path_factory.mktemp("cka"), layer_similarities(), record)


def test_values_are_said_in_all_matrices_side_by_side(report: Path, opened):
    page = opened(report)
    readouts = page.all("[data-readout]")
    cells = page.all("[data-matrix] [role=img]")
    ActionChains(page.window).move_to_element(cells[7]).perform()
    assert readouts[0].text == "\u2068block 2\u2069 × \u2068block 4\u2069: CKA 0.8000"
    assert readouts[1].text.endswith("CKA 0.4000")
    assert "Point at a cell" in readouts[2].text
    page.run("arguments[0].focus()", cells[0])
    page.window.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert readouts[1].text.endswith("block 2\u2069: CKA 0.7000")


def test_the_last_block_and_neighbours_are_summed_up(report: Path, opened):
    facts = opened(report).one(".matrix-card").text
    assert "neighbouring blocks (green frames): mean 0.90" in facts
    assert "block 4 (orange frame) with the other blocks: mean 0.80" in facts


def test_tokens_have_a_section_each_and_the_record_its_settings(report: Path, opened):
    page = opened(report)
    assert page.texts("main h2") == ["Patch tokens", "Class token", "How it was measured"]
    assert page.texts(".settings dt") == ["model", "seed", "stages"]
    assert "1,200 images, 9,600 tokens, estimator exact" in page.one(".matrix-card").text
