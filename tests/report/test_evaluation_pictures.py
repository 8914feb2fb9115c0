from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade_clip.errors import UserError
from cascade_clip.evaluation.details import ImageResult, most_confused
from cascade_clip.evaluation.scores import scores_from_confusion
from cascade_clip.report.evaluation_page import EvaluationPage
from cascade_clip.report.evaluation_pictures import write_evaluation_pictures
from cascade_clip.report.picture_sheets import PicturedImage


def page(*groups: str) -> EvaluationPage:
    confusion, names = np.array([[3, 1], [0, 2]]), ("a", "b, <c>")
    picture = Image.new("RGB", (40, 30))
    return EvaluationPage(
        title="mine",
        record={},
        scores=scores_from_confusion(confusion, (0,), (1,), names),
        colours=((1, 2, 3), (4, 5, 6)),
        paper=None,
        paper_source=None,
        confusion=confusion,
        pairs=most_confused(confusion, names, 5),
        images=[ImageResult('1, "x"', 0, 0.1 + 0.2, 0.5), ImageResult("2", 1, float("nan"), float("nan"))],
        pictures=[PicturedImage("1", group, 0.1, 0.2, *[picture] * 4, classes=(("a", (1, 2, 3)),)) for group in groups],
        log=[],
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
