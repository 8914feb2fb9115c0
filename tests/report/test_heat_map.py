import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_pages import layer_similarities
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from cascade_clip.analysis.layer_similarity import LayerSimilarity
from cascade_clip.errors import UserError
from cascade_clip.report.heat_map import (
    LAST_BLOCK,
    NEIGHBOURS,
    heat_map_png,
    short_value,
    similarity_csv,
    write_cka_report,
    write_heat_map,
)


def similarity(blocks: int = 4, *, title: str = "CLIP", tokens: str = "patch", taps: int = 0) -> LayerSimilarity:
    names = tuple(f"block {i + 1}" for i in range(blocks)) + tuple(f"tap {i + 1}" for i in range(taps))
    distance = np.abs(np.subtract.outer(np.arange(len(names)), np.arange(len(names))))
    return LayerSimilarity(title, title, title, names, names, tokens, "exact", 10, 160, 1 / (1 + distance))


def picture(*similarities: LayerSimilarity) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(heat_map_png(similarities))).convert("RGB"))


def count(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((pixels == colour).all(axis=-1).sum())


def test_frames_mark_the_last_block_and_neighbours():
    drawn = picture(similarity())
    assert count(drawn, LAST_BLOCK) > 1000
    assert count(drawn, NEIGHBOURS) > 500
    only_taps = picture(similarity(0, taps=3))
    assert count(only_taps, LAST_BLOCK) == count(only_taps, NEIGHBOURS) == 0


def test_short_values():
    texts = {1.0: "1", 0.996: "1", 0.87: ".87", 0.0: "0", -0.001: "0", -0.021: "-.02", 1.021: "1.02", 0.3: ".30"}
    assert {value: short_value(value) for value in texts} == texts
    assert short_value(np.nan) == "–"


def test_csv_has_a_line_a_cell_with_every_digit():
    lines = list(csv.DictReader(io.StringIO(similarity_csv([similarity(title='a,"b"')]))))
    assert len(lines) == 16
    assert (lines[1]["row_model"], lines[1]["row"], lines[1]["column"]) == ('a,"b"', "block 1", "block 2")
    assert float(lines[2]["cka"]) == 1 / 3


def test_three_files_or_none(tmp_path):
    files = write_heat_map(tmp_path / "out", [similarity()], {"model": "ü"})
    assert [file.name for file in files] == ["cka.png", "cka.csv", "cka.json"]
    assert json.loads(files[2].read_text(encoding="utf-8")) == {"model": "ü"}
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r'cannot be written to ".*file": .* Choose another folder'):
        write_heat_map(tmp_path / "file", [similarity()], {})


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    record = {"model": "bundled", "seed": 0, "matrices": [{"rows": []}], "stages": [[1, 2], [3]]}
    return write_cka_report(tmp_path_factory.mktemp("cka"), layer_similarities(), record)


def test_values_are_said_in_all_matrices_side_by_side(report: Path, opened):
    page = opened(report)
    readouts = page.all("[data-readout]")
    cells = page.all("[data-matrix] [role=img]")
    ActionChains(page.window).move_to_element(cells[7]).perform()
    assert readouts[0].text == "\u2068block 2\u2069 × \u2068block 4\u2069: CKA 0.8000"
    assert readouts[1].text.endswith("CKA 0.4000")
    assert "Point at or tap a cell" in readouts[2].text
    page.run("arguments[0].focus()", cells[0])
    page.window.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert readouts[1].text.endswith("block 2\u2069: CKA 0.7000")


def test_each_matrix_is_summed_up_under_its_tokens_and_the_record_gives_the_settings(report: Path, opened):
    page = opened(report)
    facts = page.one(".matrix-card").text
    assert "1,200 images, 9,600 tokens, estimator exact" in facts
    assert "neighbouring blocks (green frames): mean 0.90" in facts
    assert "block 4 (orange frame) with the other blocks: mean 0.80" in facts
    assert page.texts("main h2") == ["Patch tokens", "Class token", "How it was measured"]
    assert page.texts(".settings dt") == ["model", "seed", "stages"]
