"""What is wrong with many images is told once for each kind."""

import numpy as np
import pytest
from own_images import write_own_images

from cascade_clip.errors import UserError
from cascade_clip.preparation.prepare_folder import prepare_source_folder
from cascade_clip.preparation.problems import Problem, refuse


def _told(problems: list[Problem], images: int | None = None) -> list[str]:
    with pytest.raises(UserError) as caught:
        refuse(problems, images=images)
    return str(caught.value).splitlines()


def test_the_commonest_kinds_come_first_and_the_rest_is_counted():
    rare = [Problem(f"{letter}.png is odd in the way {letter * 9}.", f"{letter}.png") for letter in "abcdefghijkl"]
    common = [Problem(f"{name}.png is empty, 0 of {size} pixels.", f"{name}.png") for size, name in enumerate("xyz")]
    lines = _told([*rare, *common])
    assert lines[0] == "15 problems were found, of 13 kinds; nothing was written:"
    assert lines[1:3] == ["  x.png is empty, 0 of 0 pixels.", "    The same in 2 more: y.png, z.png."]
    assert lines[3] == "  a.png is odd in the way aaaaaaaaa."
    assert lines[-1] == "  and 3 more."


def test_a_short_name_is_no_part_of_other_words():
    lines = _told([Problem(f"{name} cannot be read.", name) for name in ("e", "d", "ca")])
    assert lines[1:] == ["  e cannot be read.", "    The same in 2 more: d, ca."]


def test_a_value_of_all_masks_is_told_once(tmp_path):
    image, values = np.zeros((1, 4, 3), np.uint8), [np.array([[0, 1, 11, last]], np.uint8) for last in (11, 12)]
    names = [f"street/{number}" for number in range(12)]
    write_own_images(tmp_path / "source", names, lambda number: (image, values[number % 2]), "road\ncar\n")
    with pytest.raises(UserError) as caught:
        prepare_source_folder(tmp_path / "out", source=tmp_path / "source", workers=2)
    heading, first, same, values = str(caught.value).splitlines()
    assert heading == "12 problems were found, of one kind; nothing was written:"
    assert "masks/street/0.png holds the value 11, which is no class: the values of 2 classes are 0 to 1." in first
    assert same == "    The same in all 12 images, for example street/1, street/10, street/11."
    assert values == "    By value: 11 in 12, 12 in 6."
