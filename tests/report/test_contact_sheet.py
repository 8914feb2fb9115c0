"""The contact sheet of a prepared dataset."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade_clip.data.dataset_info import CONTACT_SHEET
from cascade_clip.data.prepared import PreparedDataset
from cascade_clip.drawing import overlay
from cascade_clip.drawing.overlay import CELL_HEIGHT
from cascade_clip.preparation.prepared_writer import write_prepared
from cascade_clip.preparation.shards import ImageSource
from cascade_clip.report.contact_sheet import chosen_images, write_contact_sheet

COLOURS = [(index, 20 * index, 250 - 20 * index) for index in range(12)]


def _load(sample: ImageSource) -> tuple[bytes, np.ndarray]:
    """An image of the size and classes in the payload."""
    (width, height), classes = sample.payload
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (128, 128, 128)).save(stream, "PNG")
    columns = np.asarray(classes, np.uint8)[np.arange(width) * len(classes) // width]
    return stream.getvalue(), np.tile(columns, (height, 1))


def _dataset(folder: Path, train: list[list[int]], val: list[list[int]], size: tuple[int, int] = (24, 16)) -> Path:
    parts = {
        part: [ImageSource(f"{part}{index}", (size, classes)) for index, classes in enumerate(images)]
        for part, images in (("train", train), ("val", val))
    }
    names = [f"class {index}" for index in range(12)]
    write_prepared(folder, name="mine", classes=names, parts=parts, load=_load, colours=COLOURS)
    return folder


def test_the_chosen_images_are_spread_over_both_parts(tmp_path):
    dataset = PreparedDataset.open(_dataset(tmp_path / "a", [[1]] * 80, [[2]] * 40))
    chosen = [("train", 10 * place) for place in range(8)] + [("val", 10 * place) for place in range(4)]
    assert chosen_images(dataset) == chosen


@pytest.mark.parametrize(("train", "val", "shown"), [(1, 0, 1), (3, 0, 3), (0, 2, 2), (2, 40, 12), (40, 1, 12)])
def test_small_datasets_are_shown_as_far_as_they_go(tmp_path, train: int, val: int, shown: int):
    folder = _dataset(tmp_path / "a", [[1]] * train, [[255]] * val)
    assert len(chosen_images(PreparedDataset.open(folder))) == shown
    with Image.open(write_contact_sheet(folder)) as sheet:
        assert sheet.format == "JPEG"
        assert sheet.height > CELL_HEIGHT


def test_masks_lie_over_images_in_the_colours_of_the_dataset_with_a_legend(tmp_path, monkeypatch):
    legends: list[list[tuple[str, object]]] = []
    draw = overlay.legend_below

    def noted(entries, *shape, **options):
        legends.append([(entry.name, entry.colour) for entry in entries])
        return draw(entries, *shape, **options)

    monkeypatch.setattr(overlay, "legend_below", noted)
    folder = _dataset(tmp_path / "a", [[11, 11, 2, 255]], [])
    with Image.open(write_contact_sheet(folder)) as sheet:
        pixels = np.asarray(sheet).astype(int)
    assert legends == [[("class 11", COLOURS[11]), ("class 2", COLOURS[2]), ("grey photo: ignored", None)]]
    mask = pixels[100, 16 + 540 + 16 + 40]
    assert np.abs(mask - (np.array(COLOURS[11]) + 143) / 2).max() < 12
    assert folder / CONTACT_SHEET == write_contact_sheet(folder)
