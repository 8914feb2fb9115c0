"""Index masks and colour masks become labels; anything unknown is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade_clip.errors import UserError
from cascade_clip.preparation.masks import ColourMasks, IndexMasks, colours_in_order
from cascade_clip.preparation.source_tree import Entry


def _mask(folder: Path, values: object, name: str = "mask.png") -> Entry:
    path = folder / name
    Image.fromarray(np.array(values, np.uint8)).save(path)
    return Entry.of(path)


@pytest.mark.parametrize(
    ("masks", "values", "labels"),
    [
        (IndexMasks(3), [0, 1, 2, 255], [0, 1, 2, 255]),
        (IndexMasks(2, first_index=1, ignore=frozenset({0, 200})), [0, 1, 2, 200, 255], [255, 0, 1, 255, 255]),
        (IndexMasks(3, ignore=frozenset({1})), [0, 1, 2], [0, 255, 2]),
    ],
)
def test_indices_become_labels(tmp_path: Path, masks: IndexMasks, values: list[int], labels: list[int]) -> None:
    assert masks(_mask(tmp_path, [values])).tolist() == [labels]


@pytest.mark.parametrize(
    ("masks", "values", "message"),
    [
        (IndexMasks(2), [[0, 2]], "holds the value 2, which is no class: the values of 2 classes are 0 to 1"),
        (IndexMasks(2), [[7, 2]], "holds the values 2, 7, which"),
        (IndexMasks(2, first_index=1), [[0, 1]], "holds the value 0, which is no class: .* classes are 1 to 2"),
    ],
)
def test_values_outside_are_named(tmp_path: Path, masks: IndexMasks, values: list[list[int]], message: str) -> None:
    with pytest.raises(UserError, match=rf"mask\.png {message}"):
        masks(_mask(tmp_path, values))


def test_colours_become_their_class_and_unknown_ones_are_named(tmp_path: Path) -> None:
    pixels = [[(0, 0, 1), (128, 0, 0), (0, 0, 0), (255, 255, 255), (255, 255, 255)]]
    mask = _mask(tmp_path, pixels)
    colours, white = ((128, 0, 0), (0, 0, 1)), (255, 255, 255)
    assert ColourMasks(colours, ignore=frozenset({(0, 0, 0), white}))(mask).tolist() == [[1, 0, 255, 255, 255]]
    with pytest.raises(UserError, match=r"mask\.png holds the colour #ffffff, which is no class"):
        ColourMasks(colours, ignore=frozenset({(0, 0, 0)}))(mask)


def test_colours_follow_the_classes() -> None:
    assert colours_in_order(["a", "b"], {"b": (1, 1, 1), "a": (2, 2, 2)}) == ((2, 2, 2), (1, 1, 1))
    with pytest.raises(UserError, match=r"no colour for b\. The colour table names c, which is no class"):
        colours_in_order(["a", "b"], {"a": (1, 1, 1), "c": (2, 2, 2)})
