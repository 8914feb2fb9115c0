from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_pages import CLASSES, HOSTILE, UNSEEN, confusion, evaluation_page
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from cascade_clip.errors import UserError
from cascade_clip.evaluation.details import ImageResult
from cascade_clip.report.evaluation_page import EvaluationPage, write_evaluation_pictures, write_evaluation_report


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return write_evaluation_report(tmp_path_factory.mktemp("evaluation"), evaluation_page())


def test_scores_stand_beside_the_papers_and_settings_below(report: Path, opened):
    page, scores = opened(report), evaluation_page().result.scores
    cards = [card.text.split("\n") for card in page.all(".card")]
    seen = 100 * scores.miou_seen
    assert cards[0][:2] == ["Seen mIoU", f"{seen:.1f}%"]
    assert cards[0][2] == f"paper 41.1 {seen - 41.1:+.1f}".replace("-", "−")
    headings = ["Seen mIoU", "Unseen mIoU", "hIoU", "mIoU", "Mean accuracy", "Pixel accuracy"]
    assert [card[0] for card in cards] == headings
    assert len(cards[3]) == 2
    keys = page.texts(".settings dt")
    assert "inference.crop" in keys
    assert not [key for key in keys if key.startswith("scores")]


def test_published_figures_of_a_training_free_method_stand_below_the_scores(tmp_path, opened):
    made = replace(
        evaluation_page(), published=[("NACLIP [a]", 35.2), (HOSTILE[0], 99.9)], sources=["a: their table 1"]
    )
    page = opened(write_evaluation_report(tmp_path, made))
    here = 100 * made.result.scores.miou
    shown = [f"{value:+.1f}".replace("-", "−") for value in (here - 35.2, here - 99.9)]
    assert page.one("#published").text.splitlines() == [
        "Published mIoU of the same method and CLIP:",
        f"NACLIP [a] 35.2, here {shown[0]}",
        f"{HOSTILE[0]} 99.9, here {shown[1]}",
        "a: their table 1",
    ]


def test_the_table_sorts_by_what_is_clicked_and_missing_values_stay_last(report: Path, opened):
    page, scores = opened(report), evaluation_page().result.scores
    heading = page.one("#class-table thead th:nth-child(3)")
    names = "#class-table tbody th bdi"
    known = sorted((i for i in range(len(CLASSES)) if not np.isnan(scores.iou[i])), key=lambda i: scores.iou[i])
    heading.find_element("css selector", "button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert page.texts(names) == [CLASSES[i] for i in known[::-1]] + ["sky"]
    heading.find_element("css selector", "button").send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "ascending"
    assert page.texts(names) == [CLASSES[i] for i in known] + ["sky"]
    page.one("#class-table thead th:nth-child(2) button").click()
    assert heading.get_attribute("aria-sort") == "none"
    groups = page.texts("#class-table tbody td:nth-child(2)")
    assert groups == sorted(groups)


def test_the_table_filters_by_name_and_by_group_and_says_how_many_are_left(report: Path, opened):
    page = opened(report)
    count = page.one(".filter [role=status]")
    shown = "#class-table tbody tr:not([hidden]) th bdi"
    assert count.text == f"{len(CLASSES)} of {len(CLASSES)} classes"
    page.run("document.querySelector('input[value=unseen]').click()")
    assert page.texts(shown) == [CLASSES[i] for i in UNSEEN]
    page.one(".filter input[type=search]").send_keys("TREE")
    assert page.texts(shown) == ["tree"]
    assert count.text == f"1 of {len(CLASSES)} classes"
    page.one(".filter input[type=search]").clear()
    page.one(".filter input[type=search]").send_keys("<img")
    assert page.texts(shown) == [HOSTILE[0]]


def visible_layers(page, card: int = 0) -> list[str]:
    script = """[...document.querySelectorAll('.compare')[arguments[0]].querySelectorAll('.frames figure')]
        .filter((each) => getComputedStyle(each).visibility === 'visible').map((each) => each.textContent.trim())"""
    return page.run(script, card)


def test_the_slider_moves_by_keys_buttons_and_the_pointer(report: Path, opened):
    page = opened(report)
    slider = page.one(".compare input[type=range]")
    assert visible_layers(page) == ["Prediction"]
    slider.send_keys(Keys.HOME)
    assert visible_layers(page) == ["Image"]
    assert slider.get_attribute("aria-valuetext") == "Image"
    slider.send_keys(Keys.ARROW_RIGHT * 3)
    assert visible_layers(page) == ["Image", "Label"]
    assert slider.get_attribute("aria-valuetext") == "30 % label over image"
    clip = "document.querySelectorAll('.compare .frames figure')[1].style.clipPath"
    assert page.run(clip) == "inset(0px 70% 0px 0px)"
    page.all(".compare .stops button")[3].click()
    assert visible_layers(page) == ["Errors"]
    ActionChains(page.window).move_to_element(page.one(".compare .frames")).click().perform()
    assert visible_layers(page) == ["Prediction", "Errors"]
    assert float(slider.get_attribute("value")) == pytest.approx(2.5, abs=0.02)
    assert visible_layers(page, card=1) == ["Prediction"]


def test_the_confusion_matrix_says_its_values_on_hover_and_by_arrow_keys(report: Path, opened):
    page, counts = opened(report), confusion()
    kept = [index for index in range(len(CLASSES)) if counts[index].any()]
    cells = page.all("#confusion [role=img]")
    readout = page.one("#confusion [data-readout]")
    ActionChains(page.window).move_to_element(cells[1]).perform()
    pixels = counts[kept[0], kept[1]]
    share = 100 * pixels / counts[kept[0]].sum()
    assert readout.text == f"labelled \u2068road\u2069, predicted \u2068* tree\u2069: {share:.1f} %, {pixels} pixels"
    page.run("arguments[0].focus()", cells[0])
    cells[0].send_keys(Keys.ARROW_DOWN)
    assert readout.text.startswith("labelled \u2068* tree\u2069, predicted \u2068road\u2069")
    page.window.switch_to.active_element.send_keys(Keys.END, Keys.ARROW_RIGHT)
    assert readout.text.startswith("labelled \u2068* tree\u2069, predicted \u2068all other classes\u2069: 0 %")
    assert page.run("document.querySelectorAll('#confusion [tabindex=\"0\"]').length") == 1
    titles = {name: page.texts(f"{name} svg [role=img] > title") for name in ("#classes", "#training", "#images")}
    assert titles["#classes"][0].startswith("\u2068road\u2069 (seen): ")
    assert "loss, step 20: 2.00" in titles["#training"]
    assert len(titles["#images"]) == 20


def test_a_fully_supervised_page_does_not_speak_of_unseen_classes(tmp_path, opened):
    names, counts = [f"class {i}" for i in range(60)], np.ones((60, 60), np.int64)
    page = evaluation_page(counts, names, unseen=())
    shown = opened(write_evaluation_report(tmp_path, page))
    assert "40 classes with most labelled pixels, of 60" in shown.one("#confusion").text
    assert not shown.all("input[type=radio]")
    assert [card.text.split("\n")[0] for card in shown.all(".card")] == ["mIoU", "Mean accuracy", "Pixel accuracy"]


def test_printing_shows_all_pictures_and_no_controls(report: Path, opened):
    page = opened(report)
    page.look(medium="print")
    assert visible_layers(page) == ["Image", "Label", "Prediction", "Errors"]
    assert not page.one(".filter").is_displayed()
    assert not page.one(".slider").is_displayed()
    assert page.run("getComputedStyle(document.querySelector('.scroller.tall')).maxHeight") == "none"


def test_without_log_images_and_pictures_their_sections_are_left_out(tmp_path, opened):
    bare = evaluation_page(log=[], images=[], pictures=[], paper=None, paper_source=None)
    page = opened(write_evaluation_report(tmp_path, bare))
    assert page.texts("main h2") == ["Scores", "Classes", "Confusion", "How it was measured"]
    assert "paper" not in page.one("#scores").text
    assert page.console() == []


def examples(*groups: str) -> EvaluationPage:
    return evaluation_page(
        images=[ImageResult('1, "x"', 0, 0.1 + 0.2, 0.5), ImageResult("2", 1, float("nan"), float("nan"))],
        pictures=[replace(evaluation_page().pictures[0], group=group) for group in groups],
    )


def test_each_group_is_counted_and_what_an_earlier_evaluation_left_is_removed(tmp_path):
    write_evaluation_pictures(tmp_path, examples("best", "best", "worst"))
    written = write_evaluation_pictures(tmp_path, examples("best", "median"))
    names = {"best-1.jpg", "median-1.jpg", "confusion.png", "classes.png", "images.csv"}
    assert {file.name for file in tmp_path.iterdir()} == names == {file.name for file in written}


def test_the_table_keeps_figures_to_the_last_digit_and_quotes_names(tmp_path):
    write_evaluation_pictures(tmp_path, examples())
    rows = (tmp_path / "images.csv").read_text(encoding="utf-8").splitlines()
    assert rows == ["index,id,miou,pixel_accuracy", f'0,"1, ""x""",{0.1 + 0.2!r},0.5', "1,2,,"]


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r'The pictures cannot be written to ".*file": '):
        write_evaluation_pictures(tmp_path / "file", examples("best"))
