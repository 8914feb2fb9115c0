from dataclasses import replace
from pathlib import Path

import pytest
from report_pages import evaluation_page

from cascade_clip.errors import UserError
from cascade_clip.evaluation.details import ImageResult
from cascade_clip.report.evaluation_page import EvaluationPage, write_evaluation_pictures


def page(*groups: str) -> EvaluationPage:
    return evaluation_page(
        images=[ImageResult('1, "x"', 0, 0.1 + 0.2, 0.5), ImageResult("2", 1, float("nan"), float("nan"))],
        pictures=[replace(evaluation_page().pictures[0], group=group) for group in groups],
    )


def test_each_group_is_counted_and_what_an_earlier_evaluation_left_is_removed(tmp_path: Path):
    write_evaluation_pictures(tmp_path, page("best", "best", "worst"))
    written = write_evaluation_pictures(tmp_path, page("best", "median"))
    names = {"best-1.jpg", "median-1.jpg", "confusion.png", "classes.png", "images.csv"}
    assert {file.name for file in tmp_path.iterdir()} == names == {file.name for file in written}


def test_the_table_keeps_figures_to_the_last_digit_and_quotes_names(tmp_path: Path):
    write_evaluation_pictures(tmp_path, page())
    rows = (tmp_path / "images.csv").read_text(encoding="utf-8").splitlines()
    assert rows == ["index,id,miou,pixel_accuracy", f'0,"1, ""x""",{0.1 + 0.2!r},0.5', "1,2,,"]


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r'The pictures cannot be written to ".*file": '):
        write_evaluation_pictures(tmp_path / "file", page("best"))
